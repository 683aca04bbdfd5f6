"""Workers: what hangs, dies or eats all memory costs itself and nothing else, here and on a cluster."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from render import workers
from render.__main__ import main
from render.errors import MelvisionError
from tests.render.conftest import run_tasks
from tests.render.tasks import after, call, die_once, double, meet, nap_and_tell
from tests.render.test_worker_process import is_running

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals and sets limits as POSIX has them")


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_task_is_done_once_in_processes_of_their_own(tmp_path, jobs):
    pids = run_tasks(*[(meet, tmp_path, jobs)] * 12, jobs=jobs)
    assert len(set(pids)) == jobs
    assert os.getpid() not in pids


def test_results_come_as_they_are_done(tmp_path):
    results = workers.run(call, [(after, tmp_path / "flag", double, 1), (double, 2), (double, 3)], 2)
    assert list(itertools.islice(results, 2)) == [(1, 4), (2, 6)]
    (tmp_path / "flag").touch()
    assert list(results) == [(0, 2)]


def test_no_task_is_no_process():
    assert run_tasks() == []


def test_a_worker_killed_by_accident_costs_a_retry(tmp_path):
    good = [(double, x) for x in range(20)]
    results = run_tasks(*good, (die_once, tmp_path / "flag"), *good)
    assert results == [*range(0, 40, 2), "alive", *range(0, 40, 2)]


def test_a_run_that_is_left_early_leaves_no_process():
    results = workers.run(nap_and_tell, [(0,), (0,), (1000,), (1000,)], 2)
    pids = [pid for _, pid in itertools.islice(results, 2)]
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 8, "it waits a second or two, and not for the tasks"
    assert not any(map(is_running, pids))


def test_no_pool_and_no_cluster_package_is_imported_unasked():
    lines = (
        "import sys\n"
        "from render import workers\n"
        "assert list(workers.run(len, [('abc',)], 1)) == [(0, 3)]\n"
        "assert not {'joblib', 'dask', 'distributed', 'asyncio', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", lines], cwd=ROOT, check=True)


def test_no_more_processes_than_the_tasks_are_worth():
    assert workers.count_jobs(1, 1000) == 1
    assert workers.count_jobs(3, 1000) == 3
    assert workers.count_jobs(4, 7) == 1
    assert 1 <= workers.count_jobs(-1, 10**6) <= os.cpu_count()


def test_functions_of_the_module_that_is_run_are_found(tmp_path):
    """As `python -m render.features` needs it."""
    (tmp_path / "job.py").write_text(
        "from render import workers\n"
        "def triple(x):\n"
        "    return 3 * x\n"
        "if __name__ == '__main__':\n"
        "    print(list(workers.run(triple, [(14,)], 1)))\n"
    )
    call = [sys.executable, "-m", "job"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[(0, 42)]\n", "")


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_shards_are_disjoint_and_together_everything(n):
    items = list(range(33))
    parts = [workers.shard(items, f"{i}/{n}") for i in range(1, n + 1)]
    assert sorted(itertools.chain(*parts)) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert workers.shard(items, "2/5") == items[1::5]


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/0", "5", "1/2/3", "-1/5", "a/b", "", " 1/2", "1.0/2", "\u0661/2"])
def test_a_shard_that_cannot_be_is_one_line(text):
    with pytest.raises(MelvisionError) as caught:
        workers.shard([1, 2, 3], text)
    assert caught.value.as_flag().startswith(f"--shard {text}: expected i/n")


def names(out):
    return {path.stem for path in out.rglob("*.png")}


@pytest.mark.slow
def test_shards_draw_a_folder_together(tmp_path, nine_tracks, capsys):
    before = set()
    for i in 1, 2, 3:
        assert main([str(nine_tracks), "-o", str(tmp_path / "out"), "--shard", f"{i}/3"]) == 0
        assert capsys.readouterr().out.startswith("3 tracks: 3 drawn, 0 fresh already, 0 failed")
        assert len(names(tmp_path / "out") - before) == 3
        before = names(tmp_path / "out")
    assert before == set("012345678")


def test_rivals_in_two_shards_are_both_listed(tmp_path, nine_tracks, capsys):
    (nine_tracks / "g0/0.WAV").write_bytes(b"whatever")  # beside 0.wav: one picture for both
    errors = ""
    for i in 1, 2:
        main([str(nine_tracks), "-o", str(tmp_path / "out"), "--shard", f"{i}/2"])
        errors += capsys.readouterr().err
    rivals = [line.split(": ")[1] for line in sorted(errors.splitlines())]
    assert rivals == [f"{nine_tracks}/g0/0.WAV", f"{nine_tracks}/g0/0.wav"]
    assert names(tmp_path / "out") == set("12345678")


def test_the_first_task_may_be_done_before_the_others(tmp_path):
    """What librosa compiles on first use is then stored by one process only."""
    tasks = [(str(tmp_path), number) for number in range(6)]
    results = dict(workers.run(note_and_look, tasks, 2, first_alone=True))
    assert sorted(results) == list(range(6))
    assert results[0] == [0], "none of the others had begun"
    assert all(0 in seen for seen in results.values())


def note_and_look(folder, number):
    """Leave a file, wait, and return the numbers of all files."""
    Path(folder, str(number)).touch()
    time.sleep(0.3)
    return sorted(int(path.name) for path in Path(folder).iterdir())
