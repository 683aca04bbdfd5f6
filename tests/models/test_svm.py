"""The texture SVM: fitted as scikit-learn would, and of use."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from vision.data.pixel_store import PixelStore, to_pixels
from vision.models import svm
from vision.models.classifier import create_model
from vision.models.fitted import fit_experts
from vision.models.svm import GAMMA, SOFTNESS, C, TextureSVM, out_of_fold, train_windows, window_statistics
from vision.models.texture_space import TextureSpace

CPU = torch.device("cpu")


def stripes(n, seed=0):
    """Noise with ripples along time: label 0 slow, 1 quick, 2 none; (Store, labels)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    columns = torch.arange(96)
    period = torch.tensor([16.0, 5.0, 1e9])[y][:, None, None, None]
    phase = torch.rand(n, 1, 1, 1, generator=generator) * 6
    x = 120 + 30 * torch.sin(columns * 2 * torch.pi / period + phase) * (period < 1e9)
    x = x + torch.randn(n, 1, 32, 96, generator=generator) * 25
    x = x.clamp(0, 255).to(torch.uint8)
    store = PixelStore.collect(list(x), channels=1, height=32)
    return store, y


def build(x, n_classes=3):
    torch.manual_seed(0)
    points = len(train_windows(x))
    return create_model(
        n_classes, name="cnn2", channels=1, size=32, mean=[0.5], std=[0.2], dropout=0.1, texture=points
    ).eval()


def windows_of(x):
    windows = train_windows(x)
    return to_pixels(x.cut(*zip(*windows, strict=True)), CPU), [number for number, _ in windows]


@pytest.mark.slow
@pytest.mark.parametrize("class_weight", [None, torch.tensor([0.5, 1.0, 3.0])])
@pytest.mark.parametrize("axes", [5, 400])
def test_it_is_scikit_learns_svm(axes, class_weight, monkeypatch):
    monkeypatch.setattr(svm, "AXES", axes)
    x, y = stripes(20)
    model = build(x)
    fit_experts(model, x, y, class_weight)
    pixels, owners = windows_of(x)
    new, _ = windows_of(stripes(9, seed=1)[0])
    with torch.inference_mode():
        values = model.texture(new).numpy() * SOFTNESS
        train, other = (model.texture.texture(part).double().numpy() for part in (pixels, new))
    scale = StandardScaler().fit(train)
    spread = np.sqrt(scale.var_ * len(train) / (len(train) - 1))
    train, other = (((part - scale.mean_) / spread.clip(1e-6)).clip(-5, 5) for part in (train, other))
    n = train.shape[1]
    turn = PCA(min(axes, len(train)), svd_solver="full").fit(train)
    labels = y.numpy()[owners]
    counts = None if class_weight is None else class_weight.numpy()[labels]
    for label in range(3):
        svc = SVC(C=C, gamma=GAMMA / n).fit(turn.transform(train), labels == label, counts)
        assert np.allclose(values[:, label], svc.decision_function(turn.transform(other)), atol=5e-3)
    assert values.std() > 0.1


@pytest.mark.parametrize("n", [100, 900])
def test_the_axes_are_those_of_the_windows_however_many_there_are(n):
    """Of few windows and of many they are found in two ways."""
    space = TextureSpace(size=32, points=n, axes=20)
    columns = len(space.mean)
    assert 100 < columns / 2 < 900
    generator = torch.Generator().manual_seed(0)
    strengths = torch.logspace(0.5, -0.5, 40)
    mixed = torch.randn(n, 40, generator=generator) * strengths @ torch.randn(40, columns, generator=generator)
    space.place(mixed)
    standard = ((mixed - mixed.mean(dim=0)) / mixed.std(dim=0)).clamp(-5, 5).double().numpy()
    known = PCA(20, svd_solver="full").fit_transform(standard)
    assert np.allclose(np.abs(space.points.numpy()), np.abs(known), atol=1e-2)


def test_it_recognises_ripples_in_new_pictures():
    x, y = stripes(30)
    model = build(x)
    fit_experts(model, x, y)
    new, labels = stripes(30, seed=1)
    pixels, owners = windows_of(new)
    with torch.inference_mode():
        right = model.texture(pixels).argmax(dim=1) == labels[owners]
    assert right.float().mean() > 0.9


def test_shuffled_labels_leave_it_at_chance():
    x, y = stripes(60)
    model = build(x)
    fit_experts(model, x, y[torch.randperm(60, generator=torch.Generator().manual_seed(0))])
    new, labels = stripes(60, seed=1)
    pixels, owners = windows_of(new)
    with torch.inference_mode():
        right = model.texture(pixels).argmax(dim=1) == labels[owners]
    assert 0.1 < right.float().mean() < 0.6


def test_probabilities_do_not_depend_on_the_batch():
    x, y = stripes(20)
    model = build(x)
    fit_experts(model, x, y)
    pixels, _ = windows_of(x)
    with torch.inference_mode():
        whole = model.texture(pixels).softmax(dim=1)
        single = torch.cat([model.texture(pixels[number : number + 1]) for number in range(len(pixels))]).softmax(dim=1)
    assert torch.allclose(whole, single, atol=1e-5)


def test_many_windows_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr(svm, "POINTS", 10)
    x, y = stripes(12)
    assert len([start for number in range(12) for start in x.starts(number)]) == 36
    windows = train_windows(x)
    assert len(windows) == 9
    numbers = [number for number, _ in windows]
    assert min(numbers) == 0 and max(numbers) > 9
    model = build(x)
    fit_experts(model, x, y)
    assert model.texture.points.shape[0] == 9


def test_steady_statistics_of_silence_are_no_trouble():
    x = PixelStore.of(torch.zeros(4, 1, 32, 32, dtype=torch.uint8))
    model = build(x, 2)
    fit_experts(model, x, torch.tensor([0, 1, 0, 1]))
    with torch.inference_mode():
        found = model(torch.zeros(1, 1, 32, 32))
    assert found.isfinite().all()
    assert model.texture(torch.zeros(1, 1, 32, 32)).softmax(dim=1).tolist()[0] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_genre_without_a_window_is_never_predicted():
    x, y = stripes(20)
    model = build(x)
    fit_experts(model, x, y.clamp_max(1))
    pixels, _ = windows_of(x)
    with torch.inference_mode():
        assert not (model.texture(pixels).argmax(dim=1) == 2).any()


def test_nothing_in_it_is_trained():
    assert list(TextureSVM(3, size=32, points=6).parameters()) == []


def out_of_fold_of(x, y, groups, **how):
    statistics = window_statistics(TextureSVM(3, size=32, points=0), x, train_windows(x))
    return out_of_fold(x, y, groups, statistics, n_classes=3, **how)


def test_out_of_fold_probabilities_are_of_svms_that_have_not_seen_the_group():
    """Pictures that are equal within a group, with labels at random: seen, they would be answered right."""
    x, _ = stripes(48)
    doubled = PixelStore.collect([x[number // 2] for number in range(48)], channels=1, height=32)
    y = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(1)).repeat_interleave(2)
    apart = out_of_fold_of(doubled, y, range(48))
    together = out_of_fold_of(doubled, y, [number // 2 for number in range(48)])
    accuracy = [(p.argmax(dim=1) == y).float().mean() for p in (apart, together)]
    assert accuracy[0] > 0.8 and accuracy[1] < 0.6
    assert torch.allclose(together.sum(dim=1), torch.ones(48), atol=1e-5)


def test_out_of_fold_probabilities_tell_the_genres_apart():
    x, y = stripes(60)
    p = out_of_fold_of(x, y, range(60), seed=3)
    assert (p.argmax(dim=1) == y).float().mean() > 0.85
    assert torch.equal(p, out_of_fold_of(x, y, range(60), seed=3))


def test_a_genre_of_one_group_has_none():
    x, y = stripes(12)
    assert out_of_fold_of(x, y, [0 if label == 1 else number for number, label in enumerate(y)]) is None
