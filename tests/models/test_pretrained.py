"""Networks of torchvision, with and without pretrained weights."""

from urllib.error import URLError

import pytest
import torch
from torchvision import models as theirs

from render.errors import MelvisionError
from tests.conftest import write_tree
from tests.models.networks import build
from vision import train


@pytest.fixture
def downloads(monkeypatch):
    """torchvision's weights come from this dict of name to weights; without one there is no network."""
    there = {}

    def get(self, **_):
        if self.name not in there:
            raise URLError("no network")
        return there[self.name]

    monkeypatch.setattr(theirs.WeightsEnum, "get_state_dict", get)
    return there


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_pretrained_weights_are_taken_but_for_the_last_layer(downloads, name):
    torch.manual_seed(1)
    downloads["IMAGENET1K_V1"] = theirs.get_model(name).state_dict()
    net = build(name, weights="DEFAULT").net.net
    fresh = build(name).net.net
    kept = [key for key, value in net.state_dict().items() if torch.equal(value, downloads["IMAGENET1K_V1"].get(key))]
    last = {key for key in net.state_dict() if key.startswith(("fc.", "classifier."))}
    assert set(net.state_dict()) - set(kept) == last
    assert all(torch.equal(net.state_dict()[key], fresh.state_dict()[key]) for key in last if key.endswith("bias"))


REFUSED = [
    ({"name": "resnet9000"}, "expected one of vgg, vgg_small, vgg_dense, cnn2, cnn3, crnn, or a torchvision model"),
    ({"name": "fcn_resnet50"}, "expected one of vgg"),
    ({"name": "vgg", "weights": "DEFAULT"}, "weights DEFAULT: vgg has none; they are for torchvision's models"),
    ({"name": "resnet18", "weights": "BEST"}, "weights BEST: torchvision has none of this name for resnet18"),
    ({"name": "resnet18", "weights": "DEFAULT"}, "no network"),
    ({"name": "vit_b_16", "size": 32}, "does not take 32x32 pictures"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_built(downloads, arguments, message):
    with pytest.raises(MelvisionError) as error:
        build(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert arguments["name"] != "vit_b_16" or "size 224" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_built_through_the_command_line(downloads, tmp_path, capsys, arguments, message):
    write_tree(tmp_path / "data" / "train", 2)
    write_tree(tmp_path / "data" / "dev", 1, start=2)
    flags = ["--model", arguments["name"], "--weights", arguments.get("weights", ""), "--size", "32", "--threads", "1"]
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert message in lines[0]
