"""`render.worker_process`: limits, crashes, and no process that outlives its parent."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from render import batch, png, tracks
from render.settings import Settings
from render.worker_process import Limits, TaskFailed, call_in_process
from tests.render.conftest import SMALL, SOON, run_tasks
from tests.render.tasks import babble, burn, double, eat, note_and

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals and sets limits as POSIX has them")


@pytest.mark.slow
@pytest.mark.parametrize(
    "hang, reason",
    [
        ((sum, itertools.repeat(1)), "took over 1 s of CPU time; stopped"),  # it holds the GIL all the time
        ((time.sleep, 1000), "took over 2 s; stopped"),
    ],
    ids=["endless loop", "endless wait"],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_hangs_costs_only_itself(tmp_path, hang, reason, jobs):
    limits = Limits(cpu_seconds=1.0, wall_seconds=2.0 if hang[0] is time.sleep else 60.0)
    hang = note_and, tmp_path / "tries", *hang
    results = run_tasks((double, 1), hang, *[(double, x) for x in range(20)], jobs=jobs, limits=limits)
    assert results == [2, TaskFailed(reason), *range(0, 40, 2)]
    assert (tmp_path / "tries").read_text() == "tried\n", "a task that ran into a time limit is not tried again"


def test_the_time_limits_are_a_task_s_own():
    """A worker that has done much is not blamed for it: 24 tasks of a twentieth of the limit each."""
    pids = run_tasks(*[(burn, SOON.cpu_seconds / 20)] * 24, jobs=1, limits=SOON)
    assert len(set(pids)) == 1, "one worker did more than the limit in all"


@pytest.mark.parametrize("glutton", [(eat,), (bytearray, 1 << 45)], ids=["bit by bit", "at once"])
def test_a_task_that_allocates_without_bound_costs_only_itself(glutton):
    results = run_tasks((double, 1), glutton, *[(double, x) for x in range(20)], jobs=2, limits=SMALL)
    assert results[:1] + results[2:] == [2, *range(0, 40, 2)]
    assert results[1].reason.startswith("stopped by MemoryError")
    assert "\n" not in results[1].reason


class GluttonPath(type(Path())):
    """A file whose decoder allocates without bound."""

    def stat(self, **kwargs):
        eat()


def test_a_track_that_allocates_without_bound_fails_with_advice(tmp_path):
    track = tracks.Track("g", "a", GluttonPath(tmp_path / "a.wav"))
    task = (track, tmp_path, Settings(), "magma", png.palette("magma"))
    assert call_in_process(batch.draw, task, SMALL) == batch.Result(
        track, "failed", "needs more memory than there is; set duration to draw a part of it"
    )


@pytest.mark.parametrize(
    "death, reason",
    [((os._exit, 7), "exit code 7"), ((os.abort,), "SIGABRT"), ((signal.raise_signal, signal.SIGSEGV), "SIGSEGV")],
    ids=str,
)
def test_a_task_that_kills_its_worker_is_blamed_after_a_second_try(death, reason):
    results = run_tasks((double, 1), death, (double, 2))
    assert results == [2, TaskFailed(f"crashed the worker while decoding it ({reason})", retry=True), 4]


def test_an_exception_is_one_line_and_costs_only_itself():
    results = run_tasks((double, 1), (int, "two\nlines"), (double, 2))
    assert results[::2] == [2, 4]
    assert results[1].reason.startswith("stopped by ValueError: invalid literal")
    assert "\n" not in results[1].reason


def test_what_a_decoder_prints_is_no_result(capfd):
    assert run_tasks((babble,), (double, 1)) == ["fine", 2]
    assert capfd.readouterr().out == ""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("how", ["asleep", "in an endless loop"])
def test_workers_do_not_outlive_their_parent(tmp_path, end, how):
    lines = (
        "import pathlib\nfrom tests.render import tasks\n"
        f"from render import worker_process, workers\n"
        f"task = pathlib.Path({str(tmp_path)!r}), {how!r}\n"
        f"list(workers.run(tasks.hang_with_a_child, [task] * 2, 2, limits=worker_process.Limits(cpu_seconds=1.0)))\n"
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
