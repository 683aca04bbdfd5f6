"""Checkpoints: stored and loaded whole, refused where damaged or hostile."""

import os
import zipfile
from pathlib import Path

import pytest
import torch

from render.errors import MelvisionError
from tests.models.networks import ARGUMENTS, NAMES, levels, pixels, size_of
from vision import predict
from vision.data.preprocess import InputSpec
from vision.models import checkpoint
from vision.models.fitted import fit_experts
from vision.models.spec import ModelSpec

WITHOUT_WEIGHTS = {"format": checkpoint.FORMAT, "spec": {"classes": ["a"], "model": {}, "input": {}}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such checkpoint"),
        (lambda path: path.write_bytes(b"no checkpoint"), "is no checkpoint or damaged"),
        (lambda path: torch.save({"format": checkpoint.FORMAT}, path), "does not fit"),
        (lambda path: torch.save([1, 2], path), "not written by this version"),
        (lambda path: torch.save(Path("/"), path), "is no checkpoint or damaged"),
        (lambda path: torch.save(WITHOUT_WEIGHTS, path), "does not fit"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, trained, capsys, make, message):
    make(tmp_path / "model.pt")
    picture = str(trained / "images" / "jazz" / "jazz.00001.png")
    assert predict.main([str(tmp_path), picture]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_cut_off_checkpoint(trained, tmp_path):
    whole = (trained / "run" / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MelvisionError, match="no checkpoint or damaged"):
        checkpoint.load_model(tmp_path)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"format": checkpoint.FORMAT, "spec": Evil()}, tmp_path / "model.pt")
    with pytest.raises(MelvisionError):
        checkpoint.load_model(tmp_path)
    assert not (tmp_path / "pwned").exists()


def nan(content):
    content["weights"]["net.features.0.weight"][0, 0, 0, 0] = float("nan")


def infinite(content):
    content["weights"]["temperature"] = torch.tensor(float("inf"))


def negative_variance(content):
    """Finite, and its root is not."""
    content["weights"]["net.features.1.running_var"].fill_(-1.0)


def no_temperature(content):
    content["weights"]["temperature"] = torch.zeros(())


def spread(content):
    content["weights"]["huge"] = torch.zeros(1).expand(1 << 40)


def half(content):
    content["weights"]["normalize.mean"] = content["weights"]["normalize.mean"].half()


def large_network(content):
    """Its dense layer would take 34 GB."""
    content["spec"]["model"]["name"] = "cnn2"
    content["spec"]["model"]["experts"] = {"cnn2": 1.0}
    content["spec"]["input"]["size"] = 1024


def large_input(content):
    content["spec"]["input"]["size"] = 16000


def odd_mean(content):
    content["spec"]["model"]["mean"] = [float("nan")]


def odd_std(content):
    content["spec"]["model"]["std"] = [0.0]


HOSTILE = [
    nan,
    infinite,
    negative_variance,
    no_temperature,
    spread,
    half,
    large_network,
    large_input,
    odd_mean,
    odd_std,
]


@pytest.mark.parametrize("change", HOSTILE)
def test_what_others_hand_over_is_checked_before_it_is_used(trained, tmp_path, capsys, change):
    content = checkpoint.read(trained / "run" / "model.pt")
    change(content)
    torch.save(content, tmp_path / "model.pt")
    picture = str(trained / "images" / "jazz" / "jazz.00001.png")
    assert predict.main([str(tmp_path), picture]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path) in error


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused_at_once(trained, tmp_path):
    bomb = tmp_path / "model.pt"
    with zipfile.ZipFile(trained / "run" / "model.pt") as parts, zipfile.ZipFile(bomb, "w") as packed:
        for part in parts.infolist():
            packed.writestr(part, parts.read(part))
        packed.writestr("archive/data/huge", bytes(200 << 20), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 20 << 20
    with pytest.raises(MelvisionError, match="is no checkpoint or damaged"):
        checkpoint.load_model(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [*((name, 1) for name in NAMES), ("crnn", 3), ("resnet18", 3)])
def test_a_stored_model_answers_as_before(tmp_path, name, channels):
    model = {**ARGUMENTS, "name": name, "mean": [0.4] * channels, "std": [0.2] * channels, "texture": 4}
    model |= {"experts": {name: 0.5, "texture": 0.5}}
    model = {key: value for key, value in model.items() if key not in ("channels", "size")}
    spec = InputSpec(size_of(name), channels, window=5.0, typical_seconds=12.0)
    recipe = ModelSpec(["a", "b", "c"], model, spec)
    before = checkpoint.build(recipe).to(memory_format=torch.channels_last)
    fit_experts(before, levels(name, 4, channels), torch.tensor([0, 1, 2, 0]))
    x = pixels(name, 4, channels)
    before.train()(x)  # the means of batch norm belong to it
    checkpoint.save(tmp_path / "model.pt", before, recipe)
    after, loaded = checkpoint.load_model(tmp_path)
    assert loaded == recipe
    assert not after.training
    with torch.inference_mode():
        assert torch.equal(after(x), before.eval()(x))
