"""The command `python -m render`: flags, notes, one-line errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from render import png
from render.__main__ import main
from render.settings import Settings
from tests.conftest import write_tree
from tests.render.conftest import about, put

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--hop-length", 4096), "--hop-length 4096: expected from 1 to n_fft (2048)"),
        (("--n-mels", 0), "--n-mels 0: expected"),
        (("--fmax", 20000), "--fmax 20000.0: expected from above 0 to sr / 2 (11025 Hz)"),
        (("--top-db", "nan"), "--top-db nan: expected"),
        (("--duration", 0), "--duration 0.0: expected"),
        (("--jobs", 0), "--jobs 0: expected"),
        (("--jobs", -3), "--jobs -3: expected"),
        (("--cmap", "magna"), "--cmap magna: expected a colormap"),
    ],
)
def test_wrong_settings_are_one_line_before_anything_is_done(out, render, flags, message):
    code, printed, complaints = render(*flags)
    assert (code, printed) == (2, "")
    assert complaints.startswith(f"error: {message}")
    assert complaints.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "names, message",
    [
        (None, "no such folder"),
        ([], "no audio file"),
        (["blues/notes.txt"], "no audio file"),
        (["a.wav", "b.wav"], "no genre folders"),
        (["blues/a.png", "jazz/b.png"], "python -m vision.split"),
    ],
    ids=str,
)
def test_a_folder_without_tracks_is_one_line(tmp_path, out, render, names, message):
    folder = tmp_path / "other"
    if names is not None:
        folder.mkdir()
    for name in names or []:
        put(folder / name, b"x")
    code, printed, complaints = render(genres=folder)
    assert (code, printed) == (2, "")
    assert complaints.startswith(f"error: {folder}: ")
    assert message in complaints
    assert complaints.count("\n") == 1
    assert not out.exists()


def test_empty_genres_and_stray_files_are_noted(genres, out, render):
    (genres / "rock").mkdir()
    put(genres / "stray.wav")
    code, _, complaints = render()
    assert code == 0
    assert complaints.splitlines() == [
        f"note: {genres / 'rock'}: no audio file in this genre folder",
        f"note: {genres / 'stray.wav'}: lies outside a genre folder; skipped",
    ]
    assert not (out / "rock").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not UTF-8")
def test_names_that_are_not_valid_text_are_drawn_and_reported(tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    put(tmp_path / "genres/g/a.wav").rename(tmp_path / f"genres/g/{name}.wav")
    put(tmp_path / f"genres/g/{name} bad.wav", b"no audio at all")
    done = subprocess.run(
        [sys.executable, "-m", "render", "genres", "-o", ROOT / tmp_path / "out"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("2 tracks: 1 drawn")
    assert done.stderr.startswith("failed: genres/g/\\udcff\\udcfe bad.wav: cannot be decoded")
    assert about(tmp_path / f"out/g/{name}.png")["source"]["name"] == f"{name}.wav"


def test_progress_in_a_log_has_no_carriage_returns(render, monkeypatch):
    monkeypatch.setattr("render.batch.progress", lambda *args, **kwargs: progress(*args, **kwargs, every=0))
    from render.cli import progress

    code, _, complaints = render()
    assert code == 0
    assert "render: 1 of 3 tracks" in complaints
    assert "\r" not in complaints


def test_the_picture_stores_the_flags_it_was_drawn_with(out, render):
    render("--n-fft", 1024, "--hop-length", 300, "--fmin", 20)
    chunk = json.loads(Image.open(out / "jazz/j.png").text[png.CHUNK])
    assert Settings.from_dict(chunk) == Settings(n_fft=1024, hop_length=300, fmin=20.0)


def test_render_imports_no_torch_and_no_vision():
    lines = (
        "import sys, render.__main__, render.batch\n"
        "assert not {'torch', 'vision', 'librosa'} & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", lines], cwd=ROOT, check=True)


@pytest.mark.parametrize("under", ["file", "file/out", "file/a/b"])
def test_an_output_that_cannot_be_is_one_line(tmp_path, render, under):
    put(tmp_path / "file", b"mine")
    code, printed, complaints = render(out=tmp_path / under)
    assert (code, printed) == (2, "")
    assert complaints.startswith("error: ")
    assert complaints.count("\n") == 1
    assert str(tmp_path / under) in complaints
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_wrong_kinds(tmp_path, capsys):
    write_tree(tmp_path / "images", 1)
    for flags in (["--kind", "mfcc"], ["--style", "art"], ["--kind", "features", "--sr", "8000"]):
        assert main([str(tmp_path), *flags]) == 2
        assert flags[-2] in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--backend", "dask"], ["--scheduler", "tcp://127.0.0.1:1"], ["--shard", "3/2"]], ids=" ".join
)
def test_flags_that_make_no_sense_are_one_line(tmp_path, genres, capsys, flags):
    assert main([str(genres), "-o", str(tmp_path / "out"), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.png"))
