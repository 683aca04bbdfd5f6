"""The mission: from a folder of music to a trained network without an argument, and again with more pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from torchvision.datasets import ImageFolder

import vision.training.run
from render import demo
from tests.conftest import rows_of
from vision import train

ROOT = Path(__file__).parents[1]
GENRES = ("classical", "hiphop", "metal")


def write_tracks(folder, numbers, seconds=12.0):
    for genre in GENRES:
        (folder / genre).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            y = demo.compose(genre, number, seconds=seconds)
            soundfile.write(folder / genre / f"{genre}.{number:05}.wav", y, 22050)


def run_module(name, *args):
    """Run ``python -m name`` in the current folder, as users do; returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", name, *args]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_music_to_pictures_to_a_network_without_arguments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tracks(tmp_path / "genres", range(4))
    run_module("render", "genres/")
    names = {path.relative_to(tmp_path / "images_original").as_posix() for path in tmp_path.rglob("*.png")}
    assert names == {f"{genre}/{genre}.{number:05}.png" for genre in GENRES for number in range(4)}
    assert ImageFolder(tmp_path / "images_original").classes == list(GENRES)

    output = run_module("vision.train")
    assert "splitting images_original" in output
    assert f"report: {tmp_path.resolve()}/runs/standard-001/report.html" in output
    first = tmp_path / "runs" / "standard-001"
    assert {row["split"] for row in rows_of(first / "split.csv")} == {"train", "dev", "test"}
    assert len(rows_of(first / "history.csv")) == json.loads((first / "config.json").read_text())["config"]["epochs"]
    assert set(json.loads((first / "metrics.json").read_text())) >= {"train", "dev", "test", "dev_last"}
    before = {row["file"]: row["split"] for row in rows_of("data/split.csv")}

    # A picture is dropped in, and this time it is a Mac with MPS that trains: the network would be put there.
    extra = tmp_path / "images_original" / "metal" / "dropped in.png"
    write_tracks(tmp_path / "more", [7])
    run_module("render", "more", "-o", "more_images")
    (tmp_path / "more_images" / "metal" / "metal.00007.png").rename(extra)
    chosen = []
    real = vision.training.run.pick_device

    def choose_but_use_the_cpu(name):
        chosen.append(real(name).type)
        return torch.device("cpu")

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(vision.training.run, "pick_device", choose_but_use_the_cpu)
    assert train.main(["--epochs", "2"]) == 0
    assert chosen[0] == "mps"
    assert "1 picture" in capsys.readouterr().out
    after = {row["file"]: row["split"] for row in rows_of("data/split.csv")}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items(), "no picture changes its split"
    assert len(rows_of("runs/standard-002/split.csv")) == 13
    assert (tmp_path / "runs" / "standard-002" / "model.pt").exists()
