"""What a model file says beside its weights, and files of the state before."""

import pytest
import torch

from render.errors import PictureError
from render.settings import Settings
from vision.data.preprocess import InputSpec
from vision.models import checkpoint
from vision.models.spec import ModelSpec

FRAME = {
    "size": [432, 288],
    "colour": [255, 255, 255],
    "top": 35,
    "bottom": 256,
    "left": 54,
    "rights": [389],
    "count": 9,
}


def of_format_3(config):
    """What format 3 said of a model that took windows of 5 s of 12 s tracks."""
    model = {"name": "cnn2", "size": 32, "channels": 1, "mean": [0.4], "std": [0.2], "dropout": 0.1, "texture": 0}
    render = Settings().to_dict()
    recipe = {"classes": ["blues", "jazz"], "model": model, "frames": [FRAME], "render": render, "seconds": 12.0}
    return recipe | {"window": 5.0, "drawn": None, "about": {"config": config, "kept_epoch": 3}}


@pytest.mark.parametrize(("config", "track_seconds"), [({"track_seconds": 20.0}, 20.0), ({}, 12.0)])
def test_a_checkpoint_of_format_3_is_read(tmp_path, config, track_seconds):
    recipe = of_format_3(config)
    spec = ModelSpec.from_dict(recipe)
    assert spec.input == InputSpec(32, 1, 5.0, track_seconds, 12.0, [FRAME], Settings().to_dict(), None)
    assert spec.classes == ["blues", "jazz"] and spec.about["kept_epoch"] == 3
    model = checkpoint.build(spec).eval()
    checkpoint.write(tmp_path / "model.pt", {"format": 3, "recipe": recipe, "weights": model.state_dict()})
    loaded, again = checkpoint.load_model(tmp_path)
    assert again == spec
    x = torch.rand(3, 1, 32, 32)
    assert torch.allclose(loaded(x), model(x), atol=1e-6)  # other memory formats, other last bits
    checkpoint.save(tmp_path / "new.pt", loaded, again)
    assert checkpoint.load_model(tmp_path / "new.pt")[1] == spec


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"classes": []}, "classes"),
        ({"classes": "ab"}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"model": {"name": 3}}, "name"),
        ({"model": {"mean": [[0.5]]}}, "mean"),
        ({"model": {"musicnn": 1}}, "musicnn"),
        ({"input": {"track_seconds": True}}, "track_seconds"),
        ({"input": {"absolute": 1}}, "absolute"),
        ({"input": {"drawn": [5.0, 5]}}, "drawn"),
        ({"input": {"frames": [FRAME] * 1001}}, "frames"),
        ({"about": None}, "about"),
        ({"model": {"texture": True}}, "texture"),
        ({"model": {"experts": {}}}, "experts"),
        ({"model": {"experts": {"texture": 1.0}}}, "experts"),
        ({"model": {"experts": {"cnn2": float("nan")}}}, "experts"),
        ({"model": {"experts": {"cnn2": 0.5}}}, "experts"),
        ({"input": {"size": 0}}, "size"),
        ({"input": {"channels": True}}, "channels"),
        ({"input": {"channels": None}}, "channels"),
        ({"input": {"window": float("nan")}}, "window"),
        ({"input": {"track_seconds": float("inf")}}, "track_seconds"),
        ({"input": {"drawn": [0, 5]}}, "drawn"),
        ({"input": {"frames": [FRAME | {"top": "1"}]}}, "frames"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_name(change, part):
    values = ModelSpec(["a", "b"], {"name": "cnn2", "texture": 0, "experts": {"cnn2": 1.0}}, InputSpec(32)).to_dict()
    assert ModelSpec.from_dict(values).input == InputSpec(32)
    for name, value in change.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    with pytest.raises((ValueError, TypeError), match=part):
        ModelSpec.from_dict(values)


@pytest.mark.parametrize("texture", [0, 4])
def test_a_checkpoint_of_format_4_is_read(tmp_path, texture):
    """Its experts had fixed weights, and its vgg is called vgg_small now."""
    model = {"name": "vgg", "mean": [0.4], "std": [0.2], "dropout": 0.1, "texture": texture}
    content = {"classes": ["blues", "jazz"], "model": model, "input": InputSpec(32, 1, 5.0).to_dict(), "about": {}}
    spec = ModelSpec.from_dict(content)
    assert spec.model["experts"] == ({"vgg_small": 0.3, "texture": 0.7} if texture else {"vgg_small": 1.0})
    built = checkpoint.build(spec).eval()
    checkpoint.write(tmp_path / "model.pt", {"format": 4, "spec": content, "weights": built.state_dict()})
    loaded, again = checkpoint.load_model(tmp_path)
    x = torch.rand(3, 1, 32, 32)
    assert again == spec and torch.allclose(loaded(x), built(x), atol=1e-6)


def test_a_track_that_would_fill_the_memory_is_refused_before_it_is_resized():
    spec = InputSpec(32, 1, window=0.001)
    assert spec.width(1.0) == 32000
    with pytest.raises(PictureError, match="expected at most"):
        spec.width(1e5)
    with pytest.raises(PictureError, match="expected at most"):
        InputSpec(1024, 1, typical_seconds=1e-6).width(1e5)
