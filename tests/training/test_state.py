"""A run goes on after any interruption, and ends as if there had been none."""

import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from render.errors import MelvisionError
from tests.conftest import spectrogram_of, write_picture
from tests.training.runs import QUICK, flags, history_of, interrupt, same_runs, same_weights
from vision import train
from vision.models import checkpoint
from vision.training import loop, run
from vision.training.config import TrainConfig
from vision.training.state import read_config, read_state, write_state

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("no_plots")


def damage_by_cutting(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_by_emptying(path):
    path.write_bytes(b"")


def damage_by_a_bit(path):
    """Somewhere in the middle, where weights are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_by_a_bit])
def test_a_damaged_state_is_reported_and_the_one_before_it_used(data, whole, tmp_path, monkeypatch, capsys, damage):
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 3)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    damage(out / "last.pt")
    assert train.main(["--resume", str(out)]) == 0
    printed = capsys.readouterr()
    assert f"failed: {out}/last.pt: is no checkpoint or damaged" in printed.err
    assert "resumed after epoch 2 of 4" in printed.out
    assert same_runs(whole, out)


def test_two_damaged_states(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 2)
    assert train.main(flags(data, out)) == 130
    for name in ("last.pt", "before.pt"):
        damage_by_cutting(out / name)
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 2
    error = capsys.readouterr().err
    failed, refused = (line for line in error.splitlines() if not line.startswith("note: "))
    assert failed.startswith("failed: ") and "last.pt: is no checkpoint or damaged" in failed
    assert refused.startswith("error: ") and "before.pt: is no checkpoint or damaged" in refused


def test_the_good_state_outlives_the_damaged_one(data, whole, tmp_path, monkeypatch):
    """Interrupted again just when the next state is being stored."""
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 2)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    damage_by_cutting(out / "last.pt")
    interrupt(monkeypatch, checkpoint, "write", 0)
    monkeypatch.setattr(checkpoint, "save", lambda *_: None)
    assert train.main(["--resume", str(out)]) == 130
    monkeypatch.undo()
    assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (checkpoint, "save", 2),
        (loop, "write_csv", 2),
        (checkpoint, "write", 5),
        (os, "replace", 12),
        (run, "_finish", 0),
    ],
)
def test_interrupted_between_any_two_files(data, whole, tmp_path, monkeypatch, owner, name, after):
    out = tmp_path / "run"
    interrupt(monkeypatch, owner, name, after)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    assert not (out / "metrics.json").exists()
    assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_killed_at_random_moments(data, tmp_path):
    """By SIGKILL, which nothing can catch; the run goes on each time and ends as if nothing had been."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    small = ["--model", "cnn2"]
    assert train.main(flags(data, whole, 14, *small)) == 0
    # Its server imports once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision.training.run", "vision.train", "sklearn.metrics"])
    chance, rows, kills = random.Random(0), [], 0
    for arguments in [flags(data, out, 14, *small)] + [["--resume", str(out)]] * 2:
        process = context.Process(target=train.main, args=(arguments,))
        process.start()
        before = len(rows)
        while process.is_alive() and len(rows) < before + 2:  # the first takes long
            time.sleep(0.001)
            rows = history_of(out) if (out / "history.csv").exists() else []
        time.sleep(chance.uniform(0, 2) * rows[-1]["seconds"])
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        rows = history_of(out)
    assert kills >= 2
    if not (out / "metrics.json").exists():
        assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)


@pytest.fixture
def threads():
    """Set the threads that torch computes on; put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("given", [[], ["--threads", "2"]])
def test_a_resumed_run_computes_on_as_many_threads(data, tmp_path, monkeypatch, capsys, threads, given):
    """Whether they were asked for or torch's own choice, which another machine or day may make differently."""
    out = tmp_path / "run"
    arguments = ["--data", str(data), "--out", str(out), "--epochs", "2", "--size", "32", "--device", "cpu", *given]
    arguments += ["--model", "cnn2", "--no-texture"]
    threads(1 if given else 2)
    interrupt(monkeypatch, loop, "write_state", 1)
    assert train.main(arguments) == 130
    monkeypatch.undo()
    assert json.loads((out / "config.json").read_text())["threads"] == 2
    threads(1)
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 0
    assert "2 threads" in capsys.readouterr().out
    assert torch.get_num_threads() == 2
    assert json.loads((out / "config.json").read_text())["config"]["threads"] == (2 if given else None)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("device", "cuda", "device was cpu"),
        ("precision", "bf16", "precision was fp32"),
        ("threads", 3, "threads was 1"),
        ("processes", 2, "processes was 1"),
        ("pictures", "", "the pictures were others"),
    ],
)
def test_a_run_does_not_go_on_under_other_conditions(tmp_path, name, other, message):
    about = {"config": {}, "device": "cpu", "precision": "fp32", "threads": 1, "processes": 1, "pictures": "a"}
    model = torch.nn.Linear(1, 1)
    write_state(tmp_path, model, torch.optim.SGD(model.parameters()), [], about)
    assert read_state(tmp_path, about, print)["history"] == []
    with pytest.raises(MelvisionError, match=message) as error:
        read_state(tmp_path, about | {name: other}, print)
    assert "into another folder" in str(error.value)


@pytest.mark.slow
def test_resume_after_a_kill_gives_the_uninterrupted_run(trained, tmp_path, capsys):
    flags = ["--data", str(trained / "data"), "--epochs", "6", *QUICK, "--texture"]
    assert train.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    call = [sys.executable, "-m", "vision.train", *flags, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(call, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/6"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert train.main(["--resume", str(tmp_path / "cut")]) == 0
    assert "resumed after epoch" in capsys.readouterr().out
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    whole, cut = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "cut"))
    assert whole == cut
    assert train.main(["--resume", str(tmp_path / "cut")]) == 2
    assert "complete already" in capsys.readouterr().err


def test_resume_refuses_other_pictures(trained, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    (data / "split.csv").unlink()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_finish", stop)
    assert train.main(["--data", str(data), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 130
    monkeypatch.undo()
    write_picture(data / "train" / "jazz" / "new.png", spectrogram_of("jazz", 99))
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert "the pictures were others" in capsys.readouterr().err


def test_settings_of_an_earlier_version_are_read(tmp_path):
    """What is random_eq now was called colour."""
    settings = asdict(TrainConfig(random_eq=2.5))
    settings["colour"] = settings.pop("random_eq")
    about = {"config": settings, "device": "cpu", "precision": "fp32", "threads": 1, "processes": 1, "pictures": "a"}
    (tmp_path / "config.json").write_text(json.dumps(about))
    config = read_config(tmp_path)
    assert config == TrainConfig(random_eq=2.5)
    model = torch.nn.Linear(1, 1)
    write_state(tmp_path, model, torch.optim.SGD(model.parameters()), [], about)
    assert read_state(tmp_path, about | {"config": asdict(config)}, print) is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"config": {"epoch": 3}}', '{"config": 3}'])
def test_what_is_no_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MelvisionError, match="config.json: .*(no JSON|missing|found|no such setting)"):
        read_config(tmp_path)


@pytest.mark.slow
def test_one_run_folder_for_one_process(data, tmp_path, capsys):
    """Two trainings into one folder both reported success, and one was lost."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vision.train", *flags(data, out), "--epochs", "500"]
    first = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        while not first.stdout.readline().startswith("epoch   2"):
            assert first.poll() is None
        for again in (flags(data, out), ["--resume", str(out)]):
            assert train.main(again) == 2
            error = capsys.readouterr().err
            assert f"in use by process {first.pid} on " in error and error.count("\n") == 1
    finally:
        first.kill()
        first.communicate()
    assert (out / ".lock").exists() and (out / "last.pt").exists()
    assert train.main(flags(data, out)) == 2
    assert "exists already" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(data, tmp_path, monkeypatch, capsys):
    """The command that is named trains to the end; of several seeds it names the folder of them all."""
    named = {"one run": ["--seed", "1"], "seeds": ["--seeds", "0,1"]}
    for name, more in named.items():
        with monkeypatch.context() as patch:
            interrupt(patch, loop, "train_one_epoch", 1)
            assert train.main([*flags(data, tmp_path / name), *more]) == 130
        words = shlex.split(capsys.readouterr().err.strip().splitlines()[-1].partition("to go on: ")[2])
        assert words == ["python", "-m", "vision.train", "--resume", str(tmp_path / name)]
    assert train.main(["--resume", str(tmp_path / "one run")]) == 0
