"""A library put in order: nothing is overwritten or lost, whatever interrupts it, and all of it can be taken back."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import BANDS, band_noise
from vision import organise as organise_command
from vision.inference import organise
from vision.inference.organise import UNSURE, apply, plan, read_tag, undo, write_tag
from vision.inference.predictor import Prediction

ROOT = Path(__file__).parents[2]
FFMPEG = shutil.which("ffmpeg")


def tree(folder):
    """Every file under a folder, and what it holds."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def predicted(path, genre, p=0.9, classes=("blues", "jazz")):
    rest = (1 - p) / (len(classes) - 1)
    values = np.array([p if name == genre else rest for name in classes], np.float32)
    return Prediction(Path(path), list(classes), p=values)


@pytest.fixture
def songs(tmp_path):
    """Two albums with a song of the same name, and others."""
    for number, name in enumerate(("a/01.mp3", "b/01.mp3", "b/02 #x.mp3", "c/q.flac")):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (1000 + number))
    return tmp_path / "songs"


def predictions(songs):
    genres = {
        "a/01.mp3": ("blues", 0.9),
        "b/01.mp3": ("blues", 0.8),
        "b/02 #x.mp3": ("jazz", 0.9),
        "c/q.flac": ("jazz", 0.55),
    }
    return [predicted(songs / name, *genre) for name, genre in genres.items()]


def do(steps, log):
    done = list(apply(steps, log))
    assert all(problem == "" for _, problem in done), done
    return done


@pytest.mark.parametrize("way", organise.WAYS)
def test_sorted_and_taken_back(songs, tmp_path, way):
    before = tree(songs)
    how = {"sort_into": tmp_path / "sorted", "way": way, "playlists": tmp_path / "lists", "min_probability": 0.6}
    steps = plan(predictions(songs), **how)
    assert tree(songs) == before and not (tmp_path / "sorted").exists()  # a plan does nothing
    do(steps, tmp_path / "log.jsonl")
    found = tree(tmp_path / "sorted")
    assert set(found) == {"blues/01.mp3", "blues/01 (2).mp3", "jazz/02 #x.mp3", f"{UNSURE}/q.flac"}
    assert sorted(found.values()) == sorted(before.values())
    assert (tree(songs) == {}) if way == "move" else (tree(songs) == before)
    lists = {path.name: path.read_text().splitlines()[2:] for path in (tmp_path / "lists").iterdir()}
    assert lists["blues.m3u8"] == ["../sorted/blues/01 (2).mp3", "../sorted/blues/01.mp3"]
    assert all((tmp_path / "lists" / entry).resolve().is_file() for entries in lists.values() for entry in entries)
    if way != "move":
        assert plan(predictions(songs), **how) == []  # again: nothing to do
    assert all(problem == "" for _, problem in undo(tmp_path / "log.jsonl"))
    assert tree(songs) == before
    assert not (tmp_path / "sorted").exists() and not (tmp_path / "lists").exists(), "folders that it made"


def test_nothing_is_overwritten(songs, tmp_path):
    theirs = tmp_path / "sorted" / "blues" / "01.mp3"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    steps = plan(predictions(songs), sort_into=tmp_path / "sorted")
    (tmp_path / "sorted" / "jazz").mkdir()
    (tmp_path / "sorted" / "jazz" / "q.flac").write_bytes(b"came in between")
    problems = [problem for _, problem in apply(steps, tmp_path / "log") if problem]
    assert len(problems) == 1 and "nothing is overwritten" in problems[0]
    assert theirs.read_bytes() == b"theirs"
    assert set(tree(tmp_path / "sorted")) >= {"blues/01.mp3", "blues/01 (2).mp3", "blues/01 (3).mp3"}
    list(undo(tmp_path / "log"))
    assert set(tree(tmp_path / "sorted")) == {"blues/01.mp3", "jazz/q.flac"}


def test_undo_keeps_what_was_changed_and_the_only_copy(songs, tmp_path):
    do(plan(predictions(songs), sort_into=tmp_path / "sorted"), tmp_path / "log")
    (tmp_path / "sorted" / "blues" / "01.mp3").write_bytes(b"edited")
    (songs / "c" / "q.flac").unlink()
    problems = [problem for _, problem in undo(tmp_path / "log") if problem]
    assert len(problems) == 2 and all("left as it is" in problem for problem in problems)
    assert set(tree(tmp_path / "sorted")) == {"blues/01.mp3", "jazz/q.flac"}


def test_a_full_disk_costs_the_file_that_did_not_fit(songs, tmp_path, monkeypatch):
    before, copy = tree(songs), shutil.copyfileobj

    def full(source, target, length=0):
        if Path(source.name).parent.name == "b":
            target.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, length)

    monkeypatch.setattr(shutil, "copyfileobj", full)
    done = list(apply(plan(predictions(songs), sort_into=tmp_path / "sorted"), tmp_path / "log"))
    assert sum("No space left" in problem for _, problem in done) == 2
    assert set(tree(tmp_path / "sorted")) == {"blues/01.mp3", "jazz/q.flac"} and tree(songs) == before
    monkeypatch.undo()
    do(plan(predictions(songs), sort_into=tmp_path / "sorted"), tmp_path / "log")
    assert sorted(tree(tmp_path / "sorted").values()) == sorted(before.values())


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from tests.inference.test_organise import predicted
from vision.inference import organise
steps = organise.plan([predicted(path, "jazz") for path in sys.argv[3:]], sort_into=sys.argv[1], way="move")
print("go", flush=True)
for step, problem in organise.apply(steps, sys.argv[2]):
    assert not problem, problem
"""


@pytest.mark.slow
def test_a_kill_at_any_time_loses_nothing(tmp_path):
    """Killed, killed again, done to the end, taken back: the same files in the same places."""
    songs = tmp_path / "songs"
    songs.mkdir()
    for number in range(300):
        (songs / f"{number}.mp3").write_bytes(number.to_bytes(2, "big") * 500)
    before, rng = tree(songs), np.random.default_rng(0)
    for _ in range(4):
        left = sorted(map(str, songs.iterdir()))
        command = [sys.executable, "-c", KILLED.format(root=str(ROOT)), str(tmp_path / "sorted"), str(tmp_path / "log")]
        process = subprocess.Popen([*command, *left], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        whole = {digest for folder in (songs, tmp_path / "sorted") for digest in tree(folder).values()}
        assert whole >= set(before.values())
    do(plan([predicted(path, "jazz") for path in sorted(songs.iterdir())], sort_into=tmp_path / "sorted", way="move"),
       tmp_path / "log")  # fmt: skip
    assert tree(songs) == {}
    assert all(problem == "" for _, problem in undo(tmp_path / "log"))
    assert tree(songs) == before


def test_a_line_of_the_log_that_a_kill_cut_off(songs, tmp_path):
    """The next steps are written behind the last whole line, so that all can be taken back."""
    before, log = tree(songs), tmp_path / "log"
    steps = plan(predictions(songs), sort_into=tmp_path / "sorted", way="move")
    do(steps[:2], log)
    log.write_bytes(log.read_bytes() + b'{"action": "mo')
    do(steps[2:], log)
    assert tree(songs) == {}
    assert [problem for _, problem in undo(log)] == [""] * 4 and tree(songs) == before


@pytest.mark.parametrize("text", ["no json", '{"action": "rm", "file": "a", "target": "", "genre": ""}', "[1]"])
def test_a_log_that_is_none(tmp_path, capsys, text):
    (tmp_path / "log").write_text(text + "\n" + json.dumps({"action": "copy", "file": "", "target": "", "genre": ""}))
    assert organise_command.main(["--undo", str(tmp_path / "log")]) == 2
    assert "is no step" in capsys.readouterr().err


@pytest.mark.skipif(not FFMPEG, reason="no ffmpeg")
@pytest.mark.parametrize("ending", ["mp3", "m4a", "flac", "ogg", "opus", "wav", "aiff", "wma"])
def test_tags_of_real_containers(tmp_path, ending):
    """Written, read by ffprobe as well, still playable, and taken back."""
    pytest.importorskip("mutagen")
    path = tmp_path / f"song.{ending}"
    soundfile.write(tmp_path / "a.wav", band_noise("jazz", seconds=1.0), 22050)
    subprocess.run([FFMPEG, "-v", "error", "-i", str(tmp_path / "a.wav"), "-metadata", "title=t", "-metadata",
                    "genre=Old", str(path)], check=True)  # fmt: skip
    # ffmpeg writes other kinds of tags into these two.
    old = [] if ending in ("wav", "aiff") else ["Old"]
    assert read_tag(path) == old
    do([organise.Step("tag", str(path), genre="jazz")], tmp_path / "log")
    assert read_tag(path) == ["jazz"]
    probed = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format_tags:stream_tags", str(path)],
                            capture_output=True, text=True, check=True).stdout.lower()  # fmt: skip
    # Of a WAV, ffprobe shows the other kind where there are both.
    assert ("genre=jazz" in probed or ending == "wav") and ("title=t" in probed or ending == "aiff")
    subprocess.run([FFMPEG, "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"], check=True)
    assert [problem for _, problem in undo(tmp_path / "log")] == [""] and read_tag(path) == old
    write_tag(path, [])
    assert read_tag(path) == []


def test_what_cannot_be_tagged_is_left_as_it_is(tmp_path):
    pytest.importorskip("mutagen")
    path = tmp_path / "broken.mp3"
    path.write_bytes(b"no music")
    before = tree(tmp_path)
    done = list(apply([organise.Step("tag", str(path), genre="jazz")], tmp_path / "log"))
    assert done[0][1].startswith(str(path)) and tree(tmp_path) == before | {"log": tree(tmp_path)["log"]}
    if os.geteuid():  # root may write what is read-only
        path.chmod(0o444)
        with pytest.raises(ValueError, match="read-only"):
            write_tag(path, ["jazz"])


def test_the_command(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for genre in BANDS:
        path = tmp_path / "songs" / f"{genre}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, band_noise(genre, seconds=3.0), 22050)
    (tmp_path / "songs" / "broken.mp3").write_bytes(b"none")
    before = tree(tmp_path / "songs")
    arguments = [str(trained / "run"), "songs", "--sort-into", "sorted", "--playlists", "lists"]
    assert organise_command.main(arguments) == 1  # one file cannot be used
    out = capsys.readouterr()
    assert "nothing was changed" in out.out and "broken.mp3" in out.err and set(os.listdir(tmp_path)) == {"songs"}
    assert organise_command.main([*arguments, "--apply", "--log", "log"]) == 1
    assert "done: 3 copy" in capsys.readouterr().out
    assert len(tree(tmp_path / "sorted")) == 3 and tree(tmp_path / "songs") == before
    assert organise_command.main(["--undo", "log"]) == 0
    assert tree(tmp_path / "sorted") == {} and tree(tmp_path / "songs") == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "RUN SONGS"),
        (["run", "songs"], "nothing to do"),
        (["run", "songs", "--tags", "--min-probability", "2"], "from 0 to 1"),
        (["--undo", "log", "--apply"], "nothing else"),
        (["--undo", "none"], "cannot be read"),
    ],
)
def test_wrong_usage_gets_a_line(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert organise_command.main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
