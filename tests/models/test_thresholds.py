"""When an answer is unsure, and what is unlike the training music."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy as scipy_entropy

from vision.models.texture_space import NEAREST, NOVELTY_AXES, TextureSpace
from vision.models.thresholds import LEAST, PASSED, Thresholds, entropy, fit_thresholds


def answers(n=400, seed=0):
    """Labels and probabilities that are right as often as they say, of 4 genres."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 0.7), n)
    y = np.array([rng.choice(4, p=row) for row in p])
    return y, p, rng.lognormal(0, 0.3, n)


def test_entropy_is_scipys():
    _, p, _ = answers()
    assert entropy(p) == pytest.approx(scipy_entropy(p, axis=1))
    assert entropy([[1.0, 0.0]]) == 0


def test_unsure_answers_are_wrong_more_often_than_right():
    """Where probabilities are what they say, one half is the limit."""
    y, p, distance = answers(4000)
    thresholds = fit_thresholds(y, p, distance)
    assert thresholds.unsure_below == pytest.approx(0.5, abs=0.06)
    y, p, distance = answers(4000, seed=1)
    unsure, right = p.max(axis=1) < thresholds.unsure_below, p.argmax(axis=1) == y
    assert right[unsure].mean() < 0.5 < right[~unsure].mean()


def test_a_model_that_is_always_right_is_never_unsure():
    _, p, distance = answers()
    assert fit_thresholds(p.argmax(axis=1), p, distance).unsure_below == 0


def test_95_percent_of_the_held_out_tracks_pass():
    y, p, distance = answers()
    thresholds = fit_thresholds(y, p, distance)
    assert (thresholds.novelty(distance, p) <= thresholds.limit).mean() == pytest.approx(PASSED, abs=0.005)
    far, near = thresholds.novelty([50.0, 1.0], p[:1].repeat(2, axis=0))
    assert far > thresholds.limit and far > near
    certain, undecided = thresholds.novelty([1.0, 1.0], [[0.97, 0.01, 0.01, 0.01], [0.25] * 4])
    assert undecided > certain


def test_few_tracks_teach_nothing():
    y, p, distance = (values[: LEAST - 1] for values in answers())
    assert fit_thresholds(y, p, distance) == Thresholds()
    y, p, _ = answers()
    assert fit_thresholds(y, p, None).limit is None


def test_they_pass_through_json_and_damaged_ones_are_refused():
    thresholds = fit_thresholds(*answers())
    values = json.loads(json.dumps(vars(thresholds)))
    assert Thresholds.from_dict(values) == thresholds
    for wrong in (
        {"limit": float("nan")},
        {"distance": [0.0, 0.0]},
        {"entropy": [1.0]},
        {"unsure_below": float("inf")},
    ):
        with pytest.raises((ValueError, TypeError)):
            Thresholds.from_dict(values | wrong)


def test_the_distance_is_that_to_the_nearest_train_windows():
    torch.manual_seed(0)
    space = TextureSpace(size=32, points=60)
    statistics = torch.randn(60, space.texture.n_statistics)
    space.place(statistics)
    other = torch.randn(7, space.texture.n_statistics)
    z, points = space.project(other).numpy(), space.points.numpy()
    assert points.shape == (60, NOVELTY_AXES)
    expected = np.sort(cdist(z, points), axis=1)[:, :NEAREST].mean(axis=1)
    assert space.distance(other).numpy() == pytest.approx(expected, rel=1e-4)
    # Principal axes: uncorrelated, the widest first.
    covariance = np.cov(points.T)
    widths = np.diag(covariance)
    assert (np.diff(widths) <= 1e-4).all()
    assert np.abs(covariance - np.diag(widths)).max() < 1e-3 * widths.max()
