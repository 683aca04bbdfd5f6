"""The report of a training run."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from tests.conftest import rows_of, write_picture
from tests.reports.pages import PageReader
from vision import train
from vision.reports import metrics
from vision.reports.tables import SplitPredictions, read_split_predictions
from vision.training.report import PooledResult, confident_mistakes, genre_rows, highlight, write_pooled


def test_confident_mistakes_come_first():
    y = np.array([0, 1, 0, 1])
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    assert confident_mistakes(y, p) == [2, 1]


def test_genre_rows_name_the_most_frequent_confusion():
    y = np.array([0, 0, 0, 1, 2])
    p = np.eye(3)[[1, 1, 2, 1, 2]]
    rows = genre_rows(y, p, ["a", "b", "c"])
    assert [(row[0], row[1], row[-1]) for row in rows] == [("a", 3, "b (2)"), ("b", 1, ""), ("c", 1, "")]
    assert rows[1][2:5] == ["0.33", "1.00", "0.50"], "precision, recall, F1"


def test_what_is_no_evidence_is_covered_by_grey():
    x = torch.full((1, 4, 6), 200, dtype=torch.uint8)
    saliency = np.zeros((4, 6), np.float32)
    saliency[:, 3:] = 1
    plain, highlighted = (np.asarray(image).astype(int) for image in highlight(x, saliency))
    assert (highlighted[:, 3:] == plain[:, 3:]).all()
    covered = highlighted[:, :3]
    assert np.ptp(covered, axis=2).max() < 0.2 * np.ptp(plain[:, :3], axis=2).min(), "magma has no grey"
    colours = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    assert (np.asarray(highlight(colours, saliency * 0 + 1)[0]) == colours.permute(1, 2, 0).numpy()).all()


def test_the_page_of_a_run(trained):
    text = (trained / "run" / "report.html").read_text("utf-8")
    page = PageReader(text)
    assert page.links and page.is_self_contained
    assert "@import" not in text and "http" not in text
    for shown in (
        "How good is it?", "Where does it fail?", "How did it learn?", "On what?", "Calibration error",
        "Leak check: no track", "No mistakes", "Split 80/10/10 at random", "python -m vision.train",
    ):  # fmt: skip
        assert shown in page.text
    scores = json.loads((trained / "run" / "metrics.json").read_text())
    assert f" of {scores['test']['n']} tracks are right; guessing would give 33%" in page.text
    assert f"{100 * scores['test']['accuracy']:.0f} % (" in page.text and "What next?" in page.text
    assert f"python -m vision.train --final --like {trained / 'run'}" in page.text
    assert "too few tracks to tell" in page.text and "no curve of calibration" in page.text


@pytest.mark.slow
def test_mistakes_are_shown_and_hostile_names_do_no_harm(tmp_path):
    names = {"<script>alert(1)</script>": 0, 'b & "c"': 3}
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("dev", 4)):
        for genre, band in names.items():
            for number in range(n):
                S_db = rng.normal(-60, 6, (128, 64))
                # In dev the bands of the genres are exchanged: every track is a mistake.
                low = (band if split == "train" else 3 - band) * 32
                S_db[low : low + 16] = rng.normal(-10, 4, (16, 64))
                folder = tmp_path / "data" / split / genre.replace("/", "_")
                write_picture(folder / f"<b>{split}{number}.png", S_db.clip(-80, 0).astype(np.float32))
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--note", "<i>note</i>"]
    flags += ["--epochs", "6", "--size", "32", "--batch-size", "4", "--threads", "1", "--device", "cpu"]
    assert train.main(flags) == 0
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    page = PageReader(text)
    assert page.is_self_contained and "i" not in page.tags
    assert page.tags.count("b") == 4, "the numbers of the tiles"
    assert "<script>alert(1)<_script>" in page.text and "<i>note</i>" in page.text
    assert "Split by hand" in page.text and "Optimistic" in page.text
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    n_mistakes = round((1 - scores["dev"]["accuracy"]) * 8)
    assert n_mistakes >= 4
    wrong = [row for row in rows_of(tmp_path / "run" / "predictions.csv") if row["split"] == "dev"]
    pairs = Counter((row["genre"], row["predicted"]) for row in wrong if row["genre"] != row["predicted"])
    assert text.count("evidence for the prediction") == sum(min(2, n) for n in pairs.values()), "two of each pair"


def test_a_pooled_report_marks_the_folder_as_complete_last(tmp_path, monkeypatch):
    y, p = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    predictions = SplitPredictions(["a.png", "b.png", "c.png"], y, p, range(3))
    about, parts = {"config": {"model": "cnn2"}}, [("fold 1", 1.0, 1), ("fold 2", 0.5, 2)]
    result = PooledResult(
        "title", "<b>headline", ["a line"], predictions, ["x", "y"], {"key": 1}, about, parts, "fold", note="note"
    )
    text = write_pooled(tmp_path, result)
    assert text.startswith("a line\nnote\n")
    assert (tmp_path / "evaluation_report.txt").read_text() == text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == {"key": 1, "pooled": metrics.score(y, p), "about": about}
    back, classes = read_split_predictions(tmp_path / "predictions.csv", "held out")
    assert back.paths == predictions.paths and classes == ["x", "y"]
    page = PageReader((tmp_path / "report.html").read_text("utf-8"))
    assert page.is_self_contained and "<b>headline" in page.text and "a line" in page.text
    (tmp_path / "summary.json").unlink()
    monkeypatch.setattr("vision.reports.html.write_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_pooled(tmp_path, result)
    assert not (tmp_path / "summary.json").exists()
