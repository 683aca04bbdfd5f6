"""Augmentations change what they say, and only training pictures."""

import pytest
import torch

from tests.training.runs import flags
from vision import train
from vision.data.pixel_store import PixelStore
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.training import run
from vision.training.augment import WIDEST_MASK, Masks, Mixup, RandomEq, make_augmentations
from vision.training.config import TrainConfig

pytestmark = pytest.mark.usefixtures("no_plots")


def test_a_setting_of_0_is_no_augmentation():
    names = [type(augmentation).__name__ for augmentation in make_augmentations(TrainConfig(masks=2))]
    assert names == ["Stretch", "Shift", "RandomEq", "Mixup", "Masks"], "in the order in which random numbers are drawn"
    assert make_augmentations(TrainConfig.from_recipe("classic")) == []
    [masks] = make_augmentations(TrainConfig.from_recipe("classic", masks=2))
    assert (type(masks), masks.amount) == (Masks, 2)


def test_mixup_blends_pictures_and_targets_alike():
    torch.manual_seed(0)
    n = 500
    values, target = torch.rand(n, 1, 2, 3), torch.eye(n)
    for alpha, least, most in ((0.1, 0.9, 0.99), (1.0, 0.7, 0.8), (100.0, 0.5, 0.55)):
        x, found = Mixup(alpha).pixels(values, target)
        assert torch.allclose(found.sum(dim=1), torch.ones(n))
        assert (found > 0).sum(dim=1).max() == 2
        share = found.diagonal()
        assert share.min() >= 0.5
        assert least < share.mean() < most
        assert torch.allclose(x.flatten(1), found @ values.flatten(1), atol=1e-6)


def test_random_eq_adds_a_smooth_curve_over_frequency_and_leaves_silence():
    torch.manual_seed(0)
    x = torch.full((300, 2, 64, 5), 0.5)
    x[:, :, 10:20, 2] = 0
    x[:, :, 30:40, 3] = 1
    found, _ = RandomEq(4.0).pixels(x, None)
    assert (found[x == 0] == 0).all()
    assert found.aminmax() == (0, 1)
    curve = found[:, :1, :, :1] - 0.5
    middle = x == 0.5
    assert torch.allclose((found - 0.5)[middle], curve.expand_as(x)[middle]), "at all times and in all channels alike"
    assert curve.std() * 80 == pytest.approx(4.0, rel=0.1)
    assert curve.diff(dim=2).abs().max() < 0.05, "smooth"
    assert not torch.allclose(curve[0], curve[1], atol=0.01), "another for each picture"


def test_masks_hide_stretches_behind_the_mean():
    torch.manual_seed(0)
    x = torch.rand(200, 2, 40, 50)
    found, _ = Masks(1).pixels(x, None)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    hidden = found != x
    assert (found == mean)[hidden].all()
    assert (hidden[:, 0] == hidden[:, 1]).all(), "in all channels"
    rows, columns = hidden[:, 0].all(dim=2), hidden[:, 0].all(dim=1)
    assert torch.equal(hidden[:, 0], rows[:, :, None] | columns[:, None])
    for lines in (rows, columns):
        assert (lines.int().diff(dim=1) == 1).sum(dim=1).max() <= 1, "one stretch"
        size = lines.sum(dim=1)
        assert 0.15 * lines.shape[1] < size.max() <= WIDEST_MASK * lines.shape[1] + 1
        assert lines.any(dim=0)[1:-1].all(), "anywhere"
    assert (Masks(3).pixels(x, None)[0] != x).sum() > 2 * hidden.sum()


def test_only_train_is_augmented(data, tmp_path, monkeypatch):
    """Random windows are cut of the train pictures only, of each once an epoch; dev and test are seen as they are."""
    used, sets = [], {}
    real, read = PixelStore.random_windows, run.read_data

    def spy(self, chosen, **how):
        used.append((self, chosen.tolist(), tuple(how.items())))
        return real(self, chosen, **how)

    def keep(*args, **how):
        found = read(*args, **how)
        sets.update(found[0])
        return found

    monkeypatch.setattr(PixelStore, "random_windows", spy)
    monkeypatch.setattr(run, "read_data", keep)
    assert train.main(flags(data, tmp_path / "run", 2, "--window", "1", "--stretch", "0.2", "--masks", "2")) == 0
    assert {id(x) for x, _, _ in used} == {id(sets["train"].x)}
    assert {how for _, _, how in used} == {(("stretch", 0.2), ("shift", 0.025))}
    numbers = [number for _, chosen, _ in used for number in chosen]
    assert sorted(numbers[:12]) == sorted(numbers[12:]) == list(range(12))
    assert numbers[:12] != numbers[12:], "another order"
    model, _ = checkpoint.load_model(tmp_path / "run")
    x = sets["dev"].x
    assert x.widths.min() > 32
    used.clear()
    found = predict_proba(model, x)
    torch.rand(1)
    assert torch.equal(predict_proba(model, x), found)
    assert not used
    # The mean over windows that cover the track.
    windows = x.cut([0] * len(x.starts(0)), x.starts(0))
    assert torch.allclose(found[0], model(windows.float() / 255).softmax(dim=1).mean(dim=0), atol=1e-5)
    assert torch.allclose(predict_proba(model, x, [3, 0]), found[[3, 0]], atol=1e-6)
