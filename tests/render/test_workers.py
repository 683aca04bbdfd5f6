"""Workers: what hangs, dies or eats all memory costs itself and nothing else, here and on a cluster."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from render import batch, cluster, png, tracks, workers
from render.__main__ import main
from render.worker_process import Limits, TaskFailed, call_in_process
from render.errors import MelvisionError
from render.settings import Settings
from tests.render.tasks import after, babble, burn, call, die_once, double, eat, meet, nap_and_tell, note_and

ROOT = Path(__file__).parents[2]
SOON = Limits(cpu_seconds=1.0, wall_seconds=60.0)
SMALL = Limits(cpu_seconds=20.0, memory_bytes=1 << 29)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals and sets limits as POSIX has them")


def run(*tasks, jobs=2, limits=SOON, **kwargs):
    """Results in the order of the tasks, each of which must have come exactly once."""
    found = list(workers.run(call, tasks, jobs, limits=limits, **kwargs))
    assert sorted(number for number, _ in found) == list(range(len(tasks)))
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_task_is_done_once_in_processes_of_their_own(tmp_path, jobs):
    pids = run(*[(meet, tmp_path, jobs)] * 12, jobs=jobs)
    assert len(set(pids)) == jobs
    assert os.getpid() not in pids


def test_results_come_as_they_are_done(tmp_path):
    found = workers.run(call, [(after, tmp_path / "flag", double, 1), (double, 2), (double, 3)], 2)
    assert list(itertools.islice(found, 2)) == [(1, 4), (2, 6)]
    (tmp_path / "flag").touch()
    assert list(found) == [(0, 2)]


def test_no_task_is_no_process():
    assert run() == []


@pytest.mark.parametrize(
    "hang, told",
    [
        ((sum, itertools.repeat(1)), "took over 1 s of CPU time; stopped"),  # deaf: it holds Python's lock
        ((time.sleep, 1000), "took over 2 s; stopped"),
    ],
    ids=["endless loop", "endless wait"],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_hangs_costs_only_itself(tmp_path, hang, told, jobs):
    limits = Limits(cpu_seconds=1.0, wall_seconds=2.0 if hang[0] is time.sleep else 60.0)
    hang = note_and, tmp_path / "tries", *hang
    found = run((double, 1), hang, *[(double, x) for x in range(20)], jobs=jobs, limits=limits)
    assert found == [2, TaskFailed(told), *range(0, 40, 2)]
    assert (tmp_path / "tries").read_text() == "tried\n", "a task that ran into a time limit is not tried again"


def test_the_time_limits_are_a_task_s_own():
    """A worker that has done much is not blamed for it: 24 tasks of a twentieth of the limit each."""
    pids = run(*[(burn, SOON.cpu_seconds / 20)] * 24, jobs=1, limits=SOON)
    assert len(set(pids)) == 1, "one worker did more than the limit in all"


@pytest.mark.parametrize("glutton", [(eat,), (bytearray, 1 << 45)], ids=["bit by bit", "at once"])
def test_a_task_that_allocates_without_bound_costs_only_itself(glutton):
    found = run((double, 1), glutton, *[(double, x) for x in range(20)], jobs=2, limits=SMALL)
    assert found[:1] + found[2:] == [2, *range(0, 40, 2)]
    assert found[1].reason.startswith("stopped by MemoryError")
    assert "\n" not in found[1].reason


class GluttonPath(type(Path())):
    """A file whose decoder allocates without bound."""

    def stat(self, **kwargs):
        eat()


def test_a_track_that_allocates_without_bound_is_told_what_to_do(tmp_path):
    track = tracks.Track("g", "a", GluttonPath(tmp_path / "a.wav"))
    task = (track, tmp_path, Settings(), "magma", png.palette("magma"))
    assert call_in_process(batch.draw, task, SMALL) == batch.Result(
        track, "failed", "needs more memory than there is; draw a part of it with --duration"
    )


def test_a_worker_killed_by_accident_costs_a_retry(tmp_path):
    found = run(*[(double, x) for x in range(20)], (die_once, tmp_path / "flag"), *[(double, x) for x in range(20)])
    assert found == [*range(0, 40, 2), "alive", *range(0, 40, 2)]


@pytest.mark.parametrize(
    "death, told",
    [((os._exit, 7), "exit code 7"), ((os.abort,), "SIGABRT"), ((signal.raise_signal, signal.SIGSEGV), "SIGSEGV")],
    ids=str,
)
def test_a_task_that_kills_its_worker_is_blamed_after_a_second_try(death, told):
    found = run((double, 1), death, (double, 2))
    assert found == [2, TaskFailed(f"crashed the worker while decoding it ({told})", retry=True), 4]


def test_an_exception_is_one_line_and_costs_only_itself():
    found = run((double, 1), (int, "two\nlines"), (double, 2))
    assert found[::2] == [2, 4]
    assert found[1].reason.startswith("stopped by ValueError: invalid literal")
    assert "\n" not in found[1].reason


def test_what_a_decoder_prints_is_no_result(capfd):
    assert run((babble,), (double, 1)) == ["fine", 2]
    assert capfd.readouterr().out == ""


def test_a_run_that_is_left_early_leaves_no_process():
    results = workers.run(nap_and_tell, [(0,), (0,), (1000,), (1000,)], 2)
    pids = [pid for _, pid in itertools.islice(results, 2)]
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 8, "it waits a second or two, and not for the tasks"
    assert not any(map(is_running, pids))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("how", ["asleep", "in an endless loop"])
def test_workers_do_not_outlive_their_parent(tmp_path, end, how):
    lines = (
        "import pathlib\nfrom tests.render import tasks\n"
        f"from render import worker_process, workers\n"
        f"task = pathlib.Path({str(tmp_path)!r}), {how!r}\n"
        f"list(workers.run(tasks.hang_with_a_child, [task] * 2, 2, limits=worker_process.Limits(cpu_seconds=2.0)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", lines], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.pids"))) == 2)
        pids = [int(pid) for path in tmp_path.glob("*.pids") for pid in path.read_text().split()]
        assert all(map(is_running, pids))
        parent.send_signal(end)
        parent.wait(60)
        # A loop that holds Python's lock, without a parent to kill it, goes on to its own limit; the
        # program it started then stays, but one whose output nobody reads ends by itself.
        deaf = how != "asleep" and end != signal.SIGINT
        left = [int(path.stem) for path in tmp_path.glob("*.pids")] if deaf else pids
        wait_for(lambda: not any(map(is_running, left)))
    finally:
        parent.kill()
        for path in tmp_path.glob("*.pids"):
            for pid in map(int, path.read_text().split()):
                if is_running(pid):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_interrupted_task_takes_its_programs_along(tmp_path):
    """A worker that wakes up often is interrupted in its task when its parent dies: it must not just exit."""
    lines = (
        "import pathlib\nfrom tests.render import tasks\n"
        f"from render import workers\n"
        f"list(workers.run(tasks.hang_with_a_child, [(pathlib.Path({str(tmp_path)!r}), 'asleep')], 1))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", lines], env=environment)
    wait_for(lambda: list(tmp_path.glob("*.pids")))
    pids = [int(pid) for pid in next(tmp_path.glob("*.pids")).read_text().split()]
    try:
        assert all(map(is_running, pids))
        parent.kill()
        wait_for(lambda: not any(map(is_running, pids)))
    finally:
        parent.kill()
        parent.wait()
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


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


# On a cluster


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def starting(tmp_path):
    """A scheduler and two worker processes on loopback, just started: (address, the workers' processes)."""
    pytest.importorskip("distributed", reason='the Dask backend is an extra: pip install -e ".[cluster]"')
    address = f"tcp://127.0.0.1:{free_port()}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes, elsewhere = [], tmp_path / "elsewhere"
    elsewhere.mkdir()

    def start(kind, *flags):
        call = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *flags, "--no-dashboard"]
        with open(tmp_path / f"{kind}{len(processes)}.log", "wb") as log:
            processes.append(subprocess.Popen(call, cwd=elsewhere, env=environment, stdout=log, stderr=log))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])
        for _ in range(2):
            start("worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", tmp_path / "dask")
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(starting):
    """The same, once the scheduler knows both workers."""
    import distributed

    with distributed.Client(starting[0], timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    return starting


def test_a_cluster_that_loses_a_worker_loses_no_track(tmp_path, cluster):
    address, processes = cluster
    n_tracks = 40
    y = np.random.default_rng(0).standard_normal((n_tracks, 44100)) * 0.1
    tasks = []
    for number in range(n_tracks):
        path = tmp_path / "genres" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, y[number], 22050)
        track = tracks.Track("g", path.stem, path)
        tasks.append((track, tmp_path / "out", Settings(), "magma", png.palette("magma")))
    # Half of the tracks wait until the worker has died, so that it had some of them.
    flag, early = tmp_path / "dead", [(batch.draw, *task) for task in tasks[:20]]
    late = [(after, flag, batch.draw, *task) for task in tasks[20:]]
    results = {}
    for number, result in workers.run(call, early + late, 1, scheduler=address):
        assert number not in results
        results[number] = result
        if len(results) == 10:
            processes[0].kill()  # SIGKILL
            processes[0].wait()
            flag.touch()
    assert results.keys() == set(range(n_tracks))
    # Tracks that the dead worker had drawn but not yet reported are found drawn by the other one.
    assert {result.status for result in results.values()} <= {"drawn", "fresh"}
    assert processes[0].wait() == -signal.SIGKILL
    assert processes[1].poll() is None
    for number in range(n_tracks):
        S_db, about = png.read(tmp_path / f"out/g/{number}.png")
        assert S_db.shape == (128, 87)
        assert about["source"]["name"] == f"{number}.wav"
    one, other = tmp_path / "out/g/0.png", tmp_path / "here/g/0.png"
    batch.draw(tasks[0][0], tmp_path / "here", *tasks[0][2:])
    assert one.read_bytes() == other.read_bytes()


def test_tasks_that_hang_or_die_cost_a_cluster_no_worker(cluster):
    address, processes = cluster
    hang, death = (sum, itertools.repeat(1)), (os._exit, 7)
    found = run((double, 1), hang, death, (int, "two"), *[(double, x) for x in range(20)], scheduler=address)
    assert found[:1] + found[4:] == [2, *range(0, 40, 2)]
    assert "1 s of CPU time" in found[1].reason
    assert "exit code 7" in found[2].reason
    assert found[3].reason.startswith("stopped by ValueError")
    assert [process.poll() for process in processes] == [None, None]


def test_a_cluster_without_workers_left_is_one_line(cluster, monkeypatch):
    address, processes = cluster
    monkeypatch.setattr(cluster, "DESERTED_SECONDS", 0.5)
    results = workers.run(nap_and_tell, [(0.0,), *[(1000.0,)] * 4], 1, scheduler=address)
    assert next(results)[0] == 0
    for process in processes:
        process.kill()
    with pytest.raises(MelvisionError, match="has lost all its workers; run again for the rest"):
        list(results)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    pytest.importorskip("distributed", reason='the Dask backend is an extra: pip install -e ".[cluster]"')
    assert cluster.ANSWER_SECONDS == 10
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    for address in f"tcp://127.0.0.1:{free_port()}", "nonsense":
        with pytest.raises(MelvisionError) as caught:
            list(workers.run(double, [(1,)], 1, scheduler=address))
        assert str(caught.value).startswith(f"scheduler {address}: no Dask scheduler answers")
        assert "\n" not in str(caught.value)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MelvisionError, match=r'pip install -e "\.\[cluster\]"'):
        list(workers.run(double, [(1,)], 1, scheduler="tcp://127.0.0.1:1"))


# Through the command line


@pytest.fixture
def genres(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / f"genres/g{number % 2}/{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.standard_normal(11025) * 0.1, 22050)
    return tmp_path / "genres"


def names(out):
    return {path.stem for path in out.rglob("*.png")}


def test_shards_draw_a_folder_together(tmp_path, genres, capsys):
    before = set()
    for i in 1, 2, 3:
        assert main([str(genres), "-o", str(tmp_path / "out"), "--shard", f"{i}/3"]) == 0
        assert capsys.readouterr().out.startswith("3 tracks: 3 drawn, 0 fresh already, 0 failed")
        assert len(names(tmp_path / "out") - before) == 3
        before = names(tmp_path / "out")
    assert before == set("012345678")


def test_rivals_in_two_shards_are_both_listed(tmp_path, genres, capsys):
    (genres / "g0/0.flac").write_bytes(b"whatever")  # beside 0.wav: one picture for both
    told = ""
    for i in 1, 2:
        main([str(genres), "-o", str(tmp_path / "out"), "--shard", f"{i}/2"])
        told += capsys.readouterr().err
    rivals = [line.split(": ")[1] for line in sorted(told.splitlines())]
    assert rivals == [f"{genres}/g0/0.flac", f"{genres}/g0/0.wav"]
    assert names(tmp_path / "out") == set("12345678")


def test_the_command_draws_on_a_cluster(tmp_path, genres, starting, capsys, monkeypatch):
    """One that starts at the same time, in 3 s or, where much else goes on, in more."""
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 60)
    monkeypatch.chdir(tmp_path)  # the cluster's workers have a working directory of their own
    assert main(["genres", "-o", "out", "--backend", "dask", "--scheduler", starting[0]]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith("9 tracks: 9 drawn, 0 fresh already, 0 failed")
    assert names(tmp_path / "out") == set("012345678")


@pytest.mark.parametrize(
    "flags", [["--backend", "dask"], ["--scheduler", "tcp://127.0.0.1:1"], ["--shard", "3/2"]], ids=" ".join
)
def test_flags_that_make_no_sense_are_one_line(tmp_path, genres, capsys, flags):
    assert main([str(genres), "-o", str(tmp_path / "out"), *flags]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert not names(tmp_path / "out")
