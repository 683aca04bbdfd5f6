"""Scores and intervals against scikit-learn, scipy and the formulas."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)

from render.errors import MelvisionError
from vision.reports import metrics


@pytest.fixture
def predictions():
    """Labels (200,) and probabilities (200, 5)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, 200), rng.dirichlet(np.ones(5), 200)


def test_scores_are_scikit_learns(predictions):
    y, p = predictions
    scores = metrics.score(y, p)
    assert scores["n"] == 200
    assert scores["accuracy"] == accuracy_score(y, p.argmax(axis=1))
    assert scores["macro_f1"] == pytest.approx(f1_score(y, p.argmax(axis=1), average="macro"))
    assert scores["top3"] == pytest.approx(top_k_accuracy_score(y, p, k=3))
    assert scores["loss"] == pytest.approx(log_loss(y, p))
    assert scores["interval"] == list(metrics.wilson_interval(round(scores["accuracy"] * 200), 200))
    assert scores["calibration_error"] == metrics.reliability(y, p)["error"]


def test_tables_are_scikit_learns(predictions):
    y, p = predictions
    predicted = p.argmax(axis=1)
    assert (metrics.confusion(y, p) == confusion_matrix(y, predicted)).all()
    table = metrics.per_genre(y, p, list("abcde"))
    expected = classification_report(y, predicted, target_names=list("abcde"), output_dict=True)
    assert table | {"accuracy": expected["accuracy"]} == expected


def test_genres_that_do_not_occur():
    y, p = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    assert metrics.confusion(y, p).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    table = metrics.per_genre(y, p, ["a", "b", "c"])
    assert table["c"]["support"] == 0
    assert metrics.score(y, p)["macro_f1"] == pytest.approx(2 / 3), "over the genres that occur"
    assert table["macro avg"]["f1-score"] == metrics.score(y, p)["macro_f1"], "one definition"


def test_a_track_counts_once_however_many_pieces_it_is_cut_into(predictions):
    """The scores of pieces are scikit-learn's of tracks that are averaged by hand."""
    y, p = predictions
    n_pieces = np.random.default_rng(1).integers(1, 6, len(y))
    of_track = np.repeat(np.arange(len(y)), n_pieces)
    order = np.random.default_rng(2).permutation(len(of_track))
    noise = np.random.default_rng(3).dirichlet(np.ones(5), len(of_track))
    pieces = (0.7 * p[of_track] + 0.3 * noise)[order]
    of_track = of_track[order]
    means = np.array([pieces[of_track == track].mean(axis=0) for track in range(len(y))])
    scores = metrics.score(y[of_track], pieces, of_track)
    assert scores["n"] == len(y)
    assert scores["accuracy"] == accuracy_score(y, means.argmax(axis=1))
    assert scores["macro_f1"] == pytest.approx(f1_score(y, means.argmax(axis=1), average="macro"))
    assert scores["loss"] == pytest.approx(log_loss(y, means))
    assert scores["interval"] == metrics.score(y, means)["interval"]
    by_piece = accuracy_score(y[of_track], pieces.argmax(axis=1))
    assert scores["pieces"] == {"accuracy": pytest.approx(by_piece), "n": len(of_track)}
    labels, averaged, first = metrics.by_track(y[of_track], pieces, of_track)
    assert (np.diff(first) > 0).all() and (of_track[first] == np.array(list(dict.fromkeys(of_track.tolist())))).all()
    assert averaged == pytest.approx(means[of_track[first]]) and (labels == y[of_track[first]]).all()


def test_more_pieces_never_narrow_an_interval(predictions):
    y, p = predictions
    whole = metrics.score(y, p)
    ten = metrics.score(np.repeat(y, 10), np.repeat(p, 10, axis=0), np.repeat(np.arange(len(y)), 10))
    assert ten["interval"] == whole["interval"] and ten["n"] == whole["n"]
    assert "pieces" not in metrics.score(y, p, range(len(y)))
    assert metrics.score(y, p, range(len(y))) == whole, "to the last digit"


def test_the_interval_of_a_score_stays_within_its_range():
    assert metrics.mean_and_interval([1.0, 1.0, 0.7])["interval"][1] == 1
    assert metrics.mean_and_interval([0.0, 0.0, 0.4])["interval"][0] == 0


@pytest.mark.parametrize("shape", [(0, 5), (3, 5)])
def test_nothing_to_score_is_refused(shape):
    with pytest.raises(MelvisionError, match=rf"\({shape[0]}, 5\)"):
        metrics.score([0, 1][: shape[0]], np.zeros(shape))


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (7, 10), (139, 200), (930, 1000)])
def test_wilson_interval_is_the_formula(correct, n):
    low, high = metrics.wilson_interval(correct, n)
    # Wilson (1927), with the quantile of the normal distribution.
    share, z = correct / n, stats.norm.ppf(0.975)
    middle, half = share + z * z / 2 / n, z * np.sqrt(share * (1 - share) / n + z * z / 4 / n / n)
    assert low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-12)
    assert high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-12)
    assert 0 <= low <= share <= high <= 1


def test_t_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=(7, 3))
    low, high = metrics.t_interval(values)
    for column in range(3):
        interval = stats.ttest_1samp(values[:, column], 0).confidence_interval(0.95)
        assert (low[column], high[column]) == pytest.approx((interval.low, interval.high))
    # From a table: 4.3027 for two degrees of freedom.
    low, high = metrics.t_interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_the_interval_of_one_value_is_unknown():
    low, high = metrics.t_interval(np.ones((1, 4)))
    assert low.shape == high.shape == (4,) and np.isnan([low, high]).all()
    assert metrics.mean_and_interval([0.5]) == {"mean": 0.5, "std": None, "interval": None, "values": [0.5]}


def test_mean_and_interval_of_runs():
    values = [0.7, 0.8, 0.75, 0.9]
    summary = metrics.mean_and_interval(np.array(values))
    assert summary["values"] == values
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["std"] == pytest.approx(np.std(values, ddof=1))
    assert summary["interval"] == pytest.approx([float(end) for end in metrics.t_interval(values)])


def test_reliability_is_the_definition(predictions):
    y, p = predictions
    curve = metrics.reliability(y, p)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    assert curve["error"] == pytest.approx(error)
    assert curve["n"] == [int((bins == b).sum()) for b in sorted(set(bins))]
    assert curve["accuracy"] == pytest.approx([correct[bins == b].mean() for b in sorted(set(bins))])
    assert metrics.reliability([0, 1], [[1, 0], [0, 1]])["error"] == 0
    assert metrics.reliability([1, 0], [[1, 0], [0, 1]])["error"] == 1
