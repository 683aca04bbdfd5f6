"""`render.cluster`: what hangs or dies on a Dask cluster costs itself and nothing else."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from render import batch, png, tracks, workers
from render import cluster as cluster_module
from render.__main__ import main
from render.errors import MelvisionError
from render.settings import Settings
from tests.render.conftest import run_tasks
from tests.render.tasks import after, call, double, nap_and_tell

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="sends signals and sets limits as POSIX has them"),
]


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
    results = run_tasks((double, 1), hang, death, (int, "two"), *[(double, x) for x in range(20)], scheduler=address)
    assert results[:1] + results[4:] == [2, *range(0, 40, 2)]
    assert "1 s of CPU time" in results[1].reason
    assert "exit code 7" in results[2].reason
    assert results[3].reason.startswith("stopped by ValueError")
    assert [process.poll() for process in processes] == [None, None]


def test_a_cluster_without_workers_left_is_one_line(cluster, monkeypatch):
    address, processes = cluster
    monkeypatch.setattr(cluster_module, "DESERTED_SECONDS", 0.5)
    results = workers.run(nap_and_tell, [(0.0,), *[(1000.0,)] * 4], 1, scheduler=address)
    assert next(results)[0] == 0
    for process in processes:
        process.kill()
    with pytest.raises(MelvisionError, match="has lost all its workers; run again for the rest"):
        list(results)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    pytest.importorskip("distributed", reason='the Dask backend is an extra: pip install -e ".[cluster]"')
    assert cluster_module.ANSWER_SECONDS == 10
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 1)
    for address in f"tcp://127.0.0.1:{free_port()}", "nonsense":
        with pytest.raises(MelvisionError) as caught:
            list(workers.run(double, [(1,)], 1, scheduler=address))
        assert str(caught.value).startswith(f"scheduler {address}: no Dask scheduler answers")
        assert "\n" not in str(caught.value)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MelvisionError, match=r'pip install -e "\.\[cluster\]"'):
        list(workers.run(double, [(1,)], 1, scheduler="tcp://127.0.0.1:1"))


def test_the_command_draws_on_a_cluster(tmp_path, nine_tracks, starting, capsys, monkeypatch):
    """One that starts at the same time, in 3 s or, where much else goes on, in more."""
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 60)
    monkeypatch.chdir(tmp_path)  # the cluster's workers have a working directory of their own
    assert main(["genres", "-o", "out", "--backend", "dask", "--scheduler", starting[0]]) == 0
    captured = capsys.readouterr()
    assert all(line.startswith("render: ") for line in captured.err.splitlines()), "nothing but progress"
    assert captured.out.startswith("9 tracks: 9 drawn, 0 fresh already, 0 failed")
    assert {path.stem for path in (tmp_path / "out").rglob("*.png")} == set("012345678")
