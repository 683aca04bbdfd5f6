"""Accidents during `python -m render`: finished pictures stay, failures are listed, no picture is half written."""

import importlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from render import png

ROOT = Path(__file__).parents[1]
SR = 22050

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and mounts as Linux has them"),
]


def put(path, seconds=0.3, seed=0):
    """Write a second or so of noise; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y = np.random.default_rng(seed).standard_normal(round(seconds * SR)) * 0.1
    with open(path, "wb") as file:
        soundfile.write(file, y, SR, format="WAV")
    return path


def put_many(folder, n, seconds=4.0):
    """The same sound under n names, each of which takes some time to draw."""
    first = put(folder / "g/000.wav", seconds)
    for number in range(1, n):
        os.link(first, folder / f"g/{number:03}.wav")
    return n


def start(folder, *flags, **kwargs):
    call = [sys.executable, "-m", "render", str(folder / "genres"), "-o", str(folder / "out"), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(call, cwd=ROOT, text=True, errors="surrogateescape", **pipes, **kwargs)


def finish(process, seconds=60):
    """Returns the exit code, what it printed and what it complained of, line by line."""
    try:
        printed, complaints = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert "Traceback" not in complaints, complaints
    return process.returncode, printed, complaints.splitlines()


def render(folder, *flags, **kwargs):
    return finish(start(folder, *flags, **kwargs))


def pictures(out):
    """Names of all pictures, each of which must be whole."""
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    for name in names:
        png.read(out / name)
    return names


def hidden(out):
    return list(out.rglob(".*"))


def wait_for_pictures(process, out, n):
    while sum(1 for _ in out.rglob("*.png")) < n:
        assert process.poll() is None, "it had ended already: make more tracks"
        time.sleep(0.002)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_the_next_run_does_the_rest(tmp_path, jobs):
    n = put_many(tmp_path / "genres", 60)
    process = start(tmp_path, f"-j{jobs}")
    wait_for_pictures(process, tmp_path / "out", 5)
    process.send_signal(signal.SIGINT)
    code, printed, complaints = finish(process)
    assert (code, printed, complaints) == (130, "", ["interrupted; what was finished is kept"])
    done = pictures(tmp_path / "out")
    assert 5 <= len(done) < n
    assert hidden(tmp_path / "out") == []
    time.sleep(0.3)
    assert pictures(tmp_path / "out") == done, "a worker went on"
    code, printed, complaints = render(tmp_path)
    assert (code, complaints) == (0, [])
    assert printed.startswith(f"{n} tracks: {n - len(done)} drawn, {len(done)} fresh already, 0 failed")
    assert len(pictures(tmp_path / "out")) == n


def test_pictures_that_grow_too_large_are_listed_and_leave_nothing(tmp_path):
    """A limit on the size of files, as quotas set it: small pictures fit, large ones do not."""
    for number in range(4):
        put(tmp_path / f"genres/g/large {number}.wav", 8.0, seed=number)
        put(tmp_path / f"genres/g/small {number}.wav", 0.3, seed=number)
    (tmp_path / "genres/g/large 3.wav").rename(tmp_path / "later.wav")
    assert render(tmp_path)[0] == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in pictures(tmp_path / "out")}
    (tmp_path / "later.wav").rename(tmp_path / "genres/g/large 3.wav")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))

    code, printed, complaints = render(tmp_path, "--top-db", "60", preexec_fn=limit)
    assert code == 1
    assert printed.startswith("8 tracks: 4 drawn, 0 fresh already, 4 failed")
    assert len(complaints) == 4
    for number, line in enumerate(complaints):
        assert line.startswith(f"failed: {tmp_path}/genres/g/large {number}.wav: File too large")
        assert line.endswith("(its earlier picture is kept)") == (number < 3)
        name = f"g/large {number}.png"
        if number < 3:
            assert (tmp_path / "out" / name).read_bytes() == before[name]
    assert len(pictures(tmp_path / "out")) == 7
    assert hidden(tmp_path / "out") == []
    assert render(tmp_path, "--top-db", "60")[1].startswith("8 tracks: 4 drawn, 4 fresh already, 0 failed")


@pytest.fixture
def disk(tmp_path):
    """A file system of its own of 160 KiB at ``out``; returns a function that mounts it once more."""
    out = tmp_path / "out"
    out.mkdir()

    def mount(options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", out], capture_output=True, check=False)

    try:
        if mount("size=160k").returncode:
            pytest.skip("mounting a small disk takes more rights than there are")
    except FileNotFoundError:
        pytest.skip("no mount program")
    yield lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", out], check=True)


def test_a_full_disk_is_listed_track_by_track_and_room_makes_it_whole(tmp_path, disk):
    n = put_many(tmp_path / "genres", 24)
    code, printed, complaints = render(tmp_path)
    assert code == 1
    done = pictures(tmp_path / "out")
    assert 2 <= len(done) < n
    assert printed.startswith(f"{n} tracks: {len(done)} drawn, 0 fresh already, {n - len(done)} failed")
    assert len(complaints) == n - len(done)
    failed = {f"{name}" for name in (Path(line.split(": ")[1]).stem for line in complaints)}
    assert failed == {path.stem for path in (tmp_path / "genres/g").iterdir()} - {Path(name).stem for name in done}
    assert all(": No space left on device" in line for line in complaints)
    assert hidden(tmp_path / "out") == []
    assert disk("size=4m").returncode == 0
    code, printed, complaints = render(tmp_path)
    assert (code, complaints) == (0, [])
    assert printed.startswith(f"{n} tracks: {n - len(done)} drawn, {len(done)} fresh already, 0 failed")
    assert len(pictures(tmp_path / "out")) == n


def test_a_read_only_folder_is_one_line_or_one_a_track(tmp_path, disk):
    put(tmp_path / "genres/g/a.wav")
    assert render(tmp_path)[0] == 0
    before = (tmp_path / "out/g/a.png").read_bytes()
    assert disk("ro").returncode == 0
    assert render(tmp_path)[:1] == (0,), "nothing to write is no failure"
    put(tmp_path / "genres/g/b.wav", seed=1)
    code, printed, complaints = render(tmp_path)
    assert code == 1
    assert printed.startswith("2 tracks: 0 drawn, 1 fresh already, 1 failed")
    (line,) = complaints
    assert line.startswith(f"failed: {tmp_path}/genres/g/b.wav: Read-only file system")
    put(tmp_path / "genres/h/c.wav", seed=2)
    code, printed, complaints = render(tmp_path)
    assert (code, printed) == (2, "")
    (line,) = complaints
    assert line.startswith(f"error: {tmp_path}/out: cannot be written (Read-only file system)")
    assert (tmp_path / "out/g/a.png").read_bytes() == before


def test_two_runs_into_one_folder_get_along(tmp_path):
    n = put_many(tmp_path / "genres", 60)
    runs = [start(tmp_path, "-j1") for _ in range(2)]
    for code, printed, complaints in map(finish, runs):
        assert (code, complaints) == (0, [])
        assert printed.startswith(f"{n} tracks: ")
        assert ", 0 failed" in printed
    assert len(pictures(tmp_path / "out")) == n
    assert hidden(tmp_path / "out") == []
    assert render(tmp_path)[1].startswith(f"{n} tracks: 0 drawn, {n} fresh already")


def test_a_file_that_vanishes_during_the_run_is_listed(tmp_path):
    """Found when the run began, deleted after the first picture, long before its turn."""
    n = put_many(tmp_path / "genres", 60)
    process = start(tmp_path, "-j1")
    wait_for_pictures(process, tmp_path / "out", 1)
    last = tmp_path / f"genres/g/{n - 1:03}.wav"
    last.unlink()
    code, printed, complaints = finish(process)
    assert code == 1
    assert printed.startswith(f"{n} tracks: {n - 1} drawn, 0 fresh already, 1 failed")
    assert complaints == [f"failed: {last}: No such file or directory: {last}"]
    assert len(pictures(tmp_path / "out")) == n - 1


def test_a_file_still_being_written_is_listed_and_drawn_by_the_next_run(tmp_path):
    put(tmp_path / "genres/g/whole.wav")
    growing = put(tmp_path / "genres/g/growing.wav", 60.0)
    stop = threading.Event()

    def grow():
        with open(growing, "ab") as file:
            while not stop.wait(0.002):
                file.write(bytes(2))
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        code, printed, complaints = render(tmp_path)
    finally:
        stop.set()
        writer.join()
    assert code == 1
    assert printed.startswith("2 tracks: 1 drawn, 0 fresh already, 1 failed")
    assert complaints == [f"failed: {growing}: changed while it was read; run again once it is written"]
    assert pictures(tmp_path / "out") == ["g/whole.png"]
    assert render(tmp_path)[1].startswith("2 tracks: 1 drawn, 1 fresh already, 0 failed")


NAMES = [*"two  spaces |new\nline|\U0001f3b5|e\u0301|-n|'\"$(x)".split("|"), os.fsdecode(b"\xff\xfe"), "a" * 240]


def test_any_name_is_drawn_once_and_reported_in_one_line(tmp_path):
    for number, name in enumerate(NAMES):
        put(tmp_path / "genres" / f"g{name[:20]}" / f"{name}.wav", seed=number)
        bad = tmp_path / "genres" / f"g{name[:20]}" / f"{name[:200]} bad.wav"
        bad.write_bytes(b"no audio at all")
    n = len(NAMES)
    for status in f"{n} drawn, 0 fresh", f"0 drawn, {n} fresh":
        code, printed, complaints = render(tmp_path)
        assert code == 1
        assert printed.startswith(f"{2 * n} tracks: {status} already, {n} failed")
        assert len(complaints) == n
        assert all(line.startswith("failed: ") and "cannot be decoded" in line for line in complaints)
    assert pictures(tmp_path / "out") == sorted(f"g{name[:20]}/{name}.png" for name in NAMES)
    for name in NAMES:
        assert png.read(tmp_path / "out" / f"g{name[:20]}" / f"{name}.png")[1]["source"]["name"] == f"{name}.wav"


def test_links_in_circles_and_pipes_end(tmp_path):
    genres = tmp_path / "genres"
    put(genres / "g/a.wav")
    (genres / "g/self").symlink_to(".")
    (genres / "g/up").symlink_to("..")
    (genres / "around").symlink_to("around")
    (genres / "g/one.wav").symlink_to("other.wav")
    (genres / "g/other.wav").symlink_to("one.wav")
    os.mkfifo(genres / "g/pipe.wav")
    code, printed, complaints = finish(start(tmp_path))
    assert code == 1
    assert printed.startswith("4 tracks: 1 drawn, 0 fresh already, 3 failed")
    names = [Path(line.split(": ")[1]).name for line in complaints]
    assert names == ["one.wav", "other.wav", "pipe.wav"]
    assert pictures(tmp_path / "out") == ["g/a.png"]


def test_training_and_predicting_on_a_full_disk_name_the_file_and_go_on(tmp_path, disk, trained, capsys):
    out = tmp_path / "out"

    def vision(command, *flags):
        code = importlib.import_module(f"vision.{command}").main([*map(str, flags)])
        return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    settings = ["--recipe", "quick", "--experts", "network", "--epochs", "1", "--size", "32", "--device", "cpu"]
    code, errors = vision("train", "--data", trained / "data", "--out", out / "run", *settings)
    assert code == 2
    (line,) = errors
    assert line.startswith(f"error: {out}/run/")
    assert "No space left on device; free some space" in line
    (out / "fill").write_bytes(b"")
    with pytest.raises(OSError, match="No space"), open(out / "fill", "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for name, *flags in (
        ("export", "-o", out / "model.onnx"),
        ("embed", trained / "images", "-o", out / "embeddings.csv"),
        ("predict", trained / "images", "--csv", out / "predictions.csv"),
    ):
        code, errors = vision(name, trained / "run", *flags)
        assert code == 2
        (line,) = errors
        assert line.startswith(f"error: {flags[-1]}"), line
        assert "No space left on device" in line
    assert not [name for name in hidden(out) if name.suffix == ".part"]
    assert disk("size=64m").returncode == 0
    assert vision("train", "--resume", out / "run")[0] == 0
    assert vision("predict", trained / "run", trained / "images", "--csv", out / "predictions.csv") == (0, [])
