"""One process at a time writes into a folder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from render.errors import MelvisionError
from vision.data.folder_lock import LOCK, SILENT_WAIT, locked, require_unlocked

HOLD = "import sys; from vision.data.folder_lock import locked\nwith locked(sys.argv[1], 'training'): print('held', flush=True); sys.stdin.read()"  # noqa: E501


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder, until its stdin is closed or it is killed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_refused_and_told_who_holds_it(tmp_path, holder):
    folder = tmp_path / "run"
    for refused in (lambda: locked(folder, "training").__enter__(), lambda: require_unlocked(folder)):
        with pytest.raises(MelvisionError) as error:
            refused()
        assert f"{folder}: in use by process {holder.pid} on " in str(error.value) and "training" in str(error.value)
    holder.communicate()
    with locked(folder, "training"):
        assert (folder / LOCK).exists()
    assert not folder.exists(), "nothing was put into it"


def test_what_a_killed_process_left_is_taken_over(tmp_path, holder):
    folder = tmp_path / "run"
    holder.kill()
    holder.wait()
    assert (folder / LOCK).exists()
    require_unlocked(folder)
    assert not folder.exists()


def test_it_ends_with_an_exception_and_keeps_what_was_written(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "run", "training"):
            (tmp_path / "run" / "a").touch()
            raise ZeroDivisionError
    assert os.listdir(tmp_path / "run") == ["a"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MelvisionError, match="cannot be written"), locked(tmp_path / "file" / "run", "training"):
        pass


def test_a_process_waits_for_another(tmp_path, holder):
    threading.Timer(0.5, holder.kill).start()
    with locked(tmp_path / "run", "splitting", wait=60):
        assert holder.wait() != 0, "it has ended"


COUNT = """
import sys
from pathlib import Path
from vision.data.folder_lock import locked
for _ in range(25):
    with locked(sys.argv[1], "counting", wait=60):
        path = Path(sys.argv[2])
        path.write_text(str(int(path.read_text()) + 1))
"""


def test_several_that_wait_take_turns(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "run"), str(tmp_path / "count")]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "100"


def test_who_waits_long_is_told(tmp_path, holder, caplog):
    timer = threading.Timer(2 * SILENT_WAIT, holder.kill)
    timer.start()
    with locked(tmp_path / "run", "splitting", wait=60):
        timer.join()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"note: {tmp_path / 'run'}: in use by process {holder.pid} ") and "waiting" in line


def test_a_wait_that_was_too_short_ends_in_a_refusal(tmp_path, holder):
    with pytest.raises(MelvisionError, match="in use by"), locked(tmp_path / "run", "splitting", SILENT_WAIT + 0.5):
        pass
