"""Doubtful labels are found among the pictures that a model was not trained on."""

import numpy as np

from tests.conftest import write_picture
from tests.quality.recordings import recording, tree, write_probabilities
from vision.quality.inspect import inspect_folder
from vision.quality.label_issues import file_key, find_label_issues, judge_labels, read_predictions


def test_confidence_is_compared_with_what_is_typical_of_the_genre():
    """In a genre for which the model is under-confident 0.4 counts more than 0.5 in an over-confident one."""
    y = np.array([0] * 10 + [1] * 10)
    p = np.array([[0.9, 0.1]] * 9 + [[0.45, 0.55]] + [[0.6, 0.4]] * 9 + [[0.1, 0.9]])
    # Typical: 0.86 in genre 0, 0.45 in genre 1. The nine of genre 1 with 0.6 for genre 0 are below the typical.
    assert find_label_issues(y, p) == ([9], [1])
    assert find_label_issues(y[:0], p[:0]) == ([], [])


def test_pictures_in_the_training_set_are_not_judged(tmp_path, capsys):
    images = tree(tmp_path / "images", n=8)
    # The same recording under another name counts as trained on.
    write_picture(images / "jazz" / "again.png", (recording(2, 12.0) + 2).clip(-80, 0))
    table = tmp_path / "predictions.csv"
    write_probabilities(table, images, {"jazz.00003.png": "rock", "again.png": "blues"})
    rows = table.read_text().splitlines()
    at = [number for number, line in enumerate(rows) if "blues.00002" in line or "jazz.00003" in line]
    rows = [line.replace("held out", "train") if number in at else line for number, line in enumerate(rows)]
    table.write_text("\n".join(rows))
    report = inspect_folder(images)
    classes, probabilities, trained = read_predictions(table)
    keys = [file_key(info.file) for info in report.pictures]
    assert trained == {("blues", "blues.00002.png"), ("jazz", "jazz.00003.png")}
    by_index = {n: probabilities[key] for n, key in enumerate(keys) if key in probabilities}
    numbers = {number for number, key in enumerate(keys) if key in trained}
    judge_labels(report, classes, by_index, numbers, "it")
    assert report.label_issues == []
    (finding,) = [finding for finding in report.findings if finding.kind == "unjudged"]
    assert finding.message.startswith("3 of 25 pictures were not judged by it: 3 are in the training set")
    assert not finding.attention


def test_names_match_in_any_unicode_form():
    assert file_key("Forro\u0301/a\u0301.png") == file_key("x/Forr\u00f3/\u00e1.png") == ("Forr\u00f3", "\u00e1.png")
