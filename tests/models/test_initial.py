"""A training that begins with the network of an earlier run."""

import json
import shutil

import pytest
import torch

from render.errors import MelvisionError
from tests.conftest import write_tree
from tests.training.runs import QUICK
from vision import crossval, train
from vision.models import checkpoint
from vision.models.initial import read_initial, take_weights

GENRES = ["jazz", "metal", "polka"]


def fresh(spec, classes=GENRES):
    torch.manual_seed(5)
    spec.classes = list(classes)
    return checkpoint.build(spec), spec


def test_layers_that_fit_are_taken_and_the_head_by_genre(trained):
    model, spec = fresh(checkpoint.load_model(trained / "run")[1])
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    line = take_weights(model, spec, trained / "run")
    earlier, old = checkpoint.load_model(trained / "run")
    theirs, mine = earlier.net.state_dict(), model.net.state_dict()
    heads = [name for name in mine if mine[name].shape[:1] == (3,) and "classifier" in name]
    assert len(heads) == 2
    for name in set(mine) - set(heads):
        assert torch.equal(mine[name], theirs[name]), name
    for name in heads:
        for label, genre in enumerate(GENRES):
            known = genre in old.classes
            expected = theirs[name][old.classes.index(genre)] if known else before[name][label]
            assert torch.equal(mine[name][label], expected), genre
    assert torch.equal(model.normalize.mean, earlier.normalize.mean)
    assert "of the last layer 2 of 3 genres" in line and "anew" not in line


def test_more_or_fewer_genres(trained):
    for classes in (["blues", "jazz", "metal", "polka", "ska"], ["jazz", "blues"]):
        model, spec = fresh(checkpoint.load_model(trained / "run")[1], classes)
        known = len({"blues", "jazz", "metal"} & set(classes))
        assert f"of the last layer {known} of {len(classes)} genres" in take_weights(model, spec, trained / "run")


def test_another_network_is_refused(trained):
    with pytest.raises(MelvisionError, match="its network is .* and cnn2 is to be trained"):
        read_initial(trained / "run", "cnn2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Other tracks than those of `trained`, and one genre less."""
    root = tmp_path_factory.mktemp("more")
    for split, n, start in (("train", 4, 100), ("dev", 2, 200), ("test", 2, 300)):
        write_tree(root / "data" / split, n, ("jazz", "metal"), start=start)
    return root / "data"


def flags(trained, data, out, *more):
    model = json.loads((trained / "run" / "config.json").read_text())["config"]["model"]
    return ["--data", str(data), "--out", str(out), "--init", str(trained / "run"), "--model", model, *QUICK, *more]


def test_a_training_begins_with_what_the_earlier_one_knew(trained, data, tmp_path, capsys):
    assert train.main(flags(trained, data, tmp_path / "run", "--epochs", "1", "--lr", "1e-5", "--no-texture")) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert scores["dev"]["accuracy"] == 1.0, "known already"
    assert "LEAK" not in capsys.readouterr().err


def test_tracks_that_it_has_heard_are_named(trained, data, tmp_path, capsys):
    leaky = tmp_path / "data"
    shutil.copytree(data, leaky)
    heard = sorted((trained / "data" / "train" / "jazz").glob("*.png"))[:2]
    for path in heard:
        shutil.copy(path, leaky / "test" / "jazz")
    assert train.main(flags(trained, leaky, tmp_path / "run", "--epochs", "1")) == 0
    assert "was trained on 2 of the 6 test tracks" in capsys.readouterr().err
    images = trained / "images"
    call = [str(images), "--folds", "2", "--out", str(tmp_path / "folds"), "--init", str(trained / "run")]
    assert crossval.main([*call, *flags(trained, data, "x")[6:]]) == 2
    assert "was trained on 30 of the tracks that folds score" in capsys.readouterr().err
