"""Scores as text, and predictions.csv."""

import csv

import numpy as np
import pytest
from sklearn.metrics import classification_report

from vision.data.csv_files import read_csv
from vision.reports import metrics, tables
from vision.reports.tables import SplitPredictions

CLASSES = ["blues", 'jazz, "cool"', "métal"]


@pytest.fixture
def predictions():
    """Of 30 tracks; one name is no text, one has a line break."""
    rng = np.random.default_rng(0)
    paths = ["a\udcff.png", "b\nc.png", *(f"{number}.png" for number in range(28))]
    return SplitPredictions(paths, rng.integers(0, 3, 30), rng.dirichlet(np.ones(3), 30), range(30))


def test_predictions_are_read_as_they_were_written(tmp_path, predictions):
    path = tmp_path / "predictions.csv"
    dev = SplitPredictions(["d.png"], np.array([1]), np.array([[0.25, 0.5, 0.25]]), [0])
    tables.write_split_predictions(path, {"dev": dev, "test": predictions}, CLASSES)
    back, classes = tables.read_split_predictions(path, "test")
    assert classes == CLASSES
    assert back.paths == predictions.paths
    assert (back.y == predictions.y).all()
    assert np.abs(back.probabilities - predictions.probabilities).max() <= 5e-5
    rows = read_csv(path)
    assert [row["split"] for row in rows] == ["dev"] + ["test"] * 30
    assert [row["predicted"] for row in rows[1:]] == [CLASSES[k] for k in predictions.probabilities.argmax(axis=1)]
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert next(csv.reader(file)) == [*tables.PREDICTION_COLUMNS, *CLASSES]


def test_the_report_is_scikit_learns(predictions):
    y, p, _ = predictions.by_track()
    scores = {"dev": metrics.score(y, p), "kept_epoch": 3}
    text = tables.text_report(scores, metrics.per_genre(y, p, CLASSES), CLASSES, "dev", note="a note", kept=3)
    lines = text.splitlines()
    assert lines[0] == "a note" and "epoch 3" in lines[2] and "optimistic" in lines[3]
    expected = classification_report(y, p.argmax(axis=1), target_names=CLASSES, digits=3).splitlines()
    for name in [*CLASSES, "macro avg", "weighted avg"]:
        row = next(line for line in expected if line.strip().startswith(name))
        assert row.split() in [line.split() for line in lines]
    assert text.endswith("\n")


def test_a_summary_as_a_line():
    assert tables.summary_line("dev", metrics.mean_and_interval([0.5])) == "dev: 0.500"
    line = tables.summary_line("dev", metrics.mean_and_interval([0.5, 0.6, 0.7]))
    assert line.startswith("dev: 0.600 +- 0.100 (95 %") and line.endswith("): 0.500, 0.600, 0.700")
    assert "0.352 to 0.848" in line
