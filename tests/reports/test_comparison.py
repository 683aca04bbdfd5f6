"""Paired tests of runs, the settings that differ, and the page."""

import csv
import json
import math

import numpy as np
import pytest

from render.errors import MelvisionError
from tests.reports.pages import PageReader
from tests.reports.run_folders import make_pooled, make_run, tracks
from vision.reports import metrics
from vision.reports.comparison import (
    compare_runs,
    differing_settings,
    holm,
    mcnemar,
    paired_test,
    text_lines,
    write_page,
)


def by_hand(b, c):
    """Twice the smaller tail of Binomial(b + c, 1/2)."""
    n = b + c
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n)


@pytest.mark.parametrize(("b", "c"), [(32, 18), (18, 32), (0, 6), (5, 5), (1, 0), (121, 59), (10, 2)])
def test_mcnemar_is_the_binomial_formula(b, c):
    assert mcnemar(b, c) == pytest.approx(by_hand(b, c), rel=1e-9)


def test_known_p_values():
    assert mcnemar(32, 18) == pytest.approx(0.06491, abs=1e-5)
    assert mcnemar(0, 6) == 2 / 64
    assert mcnemar(0, 0) == 1


def test_holm_as_r_does_it():
    """``p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")``"""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3]) == [0.3] and holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def test_counts_of_a_paired_test():
    rng = np.random.default_rng(0)
    names = [("blues", str(number)) for number in range(200)]
    a, b = (dict(zip(names, (rng.random(200) < share).tolist(), strict=True)) for share in (0.7, 0.5))
    test = paired_test(a, b, ("a", "b"))
    assert test.n_shared == test.n_first == test.n_second == 200
    assert test.only_first - test.only_second == sum(a.values()) - sum(b.values())
    assert test.p == pytest.approx(by_hand(test.only_first, test.only_second))
    other = paired_test(b, a, ("b", "a"))
    assert (other.only_first, other.only_second, other.p) == (test.only_second, test.only_first, test.p)


def test_tracks_are_matched_whatever_their_folder_order_and_pieces(tmp_path):
    """One run has whole tracks; the other has two pieces of each, in another folder and the other way round."""
    whole = tracks(6, 4)
    make_run(tmp_path / "a", whole)
    pieces = {}
    for number in reversed(range(10)):
        for piece in (1, 2):
            pieces[f"/elsewhere/test/blues/blues.{number:05}.seg{piece:03}.png"] = number >= 3
    make_run(tmp_path / "b", pieces)
    (test,) = compare_runs([tmp_path / "a", tmp_path / "b"]).tests
    # The first is right on 0 to 5, the second on 3 to 9.
    assert (test.n_first, test.n_second, test.n_shared) == (10, 10, 10)
    assert (test.only_first, test.only_second) == (3, 4)
    assert test.p == test.p_holm == by_hand(3, 4)


def test_equal_names_of_two_genres_are_two_tracks(tmp_path):
    same = {f"data/test/{genre}/song.png": genre == "jazz" for genre in ("blues", "jazz")}
    make_run(tmp_path / "a", same)
    make_run(tmp_path / "b", {path: not good for path, good in same.items()})
    (test,) = compare_runs([tmp_path / "a", tmp_path / "b"]).tests
    assert (test.n_shared, test.only_first, test.only_second) == (2, 1, 1)


@pytest.mark.parametrize(
    ("n_shared", "tested"), [(0, False), (4, False), (5, True), (9, True)], ids=["none", "less", "half", "most"]
)
def test_other_tracks(tmp_path, n_shared, tested):
    make_run(tmp_path / "a", tracks(10))
    make_run(tmp_path / "b", tracks(0, 10, start=10 - n_shared))
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"])
    (test,) = comparison.tests
    assert test.n_shared == n_shared
    line = text_lines(comparison)[-1]
    assert f"{n_shared} tracks" in line and "of 10 and 10" in line
    if tested:
        assert test.p == by_hand(n_shared, 0) and "p = " in line
    else:
        assert test.p is None and test.p_holm is None and "not tested" in line
    write_page(tmp_path / "page.html", comparison)


def test_predictions_of_earlier_versions_have_no_tracks(tmp_path):
    """Pieces are then averaged here, by the names of their files."""
    sure = {"data/test/blues/blues.00000.seg001.png": False, "data/test/blues/blues.00000.seg002.png": True}
    make_run(tmp_path / "a", sure | tracks(3, 1, start=1))
    make_run(tmp_path / "b", tracks(5))
    path = tmp_path / "a" / "predictions.csv"
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    rows[1][-2:] = ["0.1", "0.9"]  # the first piece is more wrong than the second is right
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([*row[:3], *row[5:]] for row in rows)
    (test,) = compare_runs([tmp_path / "a", tmp_path / "b"]).tests
    assert (test.n_first, test.n_shared, test.only_first, test.only_second) == (5, 5, 0, 2)


def test_settings_that_differ():
    runs = [{"lr": 0.1, "seed": 0, "threads": None}, {"lr": 0.2, "seed": 0}, {"lr": 0.1, "seed": 0, "note": "x"}]
    assert differing_settings(runs) == {"lr": [0.1, 0.2, 0.1], "note": [None, None, "x"]}


def test_settings_of_earlier_versions_have_their_names_of_now(tmp_path):
    make_run(tmp_path / "a", tracks(3), random_eq=4.0)
    make_run(tmp_path / "b", tracks(3), colour=4.0)
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"])
    assert comparison.settings == {}
    assert "No setting differs." in text_lines(comparison)


@pytest.mark.parametrize(("n", "n_tests"), [(2, 1), (4, 6), (5, 4)])
def test_which_pairs_are_tested(tmp_path, n, n_tests):
    folders = [make_run(tmp_path / str(number), tracks(4 * number, 20 - 4 * number)) for number in range(n)]
    tests = compare_runs(folders).tests
    assert len(tests) == n_tests
    if n == 5:
        assert {test.first for test in tests} == {str(folders[0])}
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))


def test_seeds_and_folds(tmp_path):
    spread = metrics.mean_and_interval([0.5, 0.75])
    seeds = make_pooled(tmp_path / "seeds", tracks(6, 4), {"test": spread, "judged": "test"}, seeds=[0, 1])
    folds = make_pooled(tmp_path / "folds", tracks(8, 2), {"accuracy": spread}, folds=2, repeats=1)
    run = make_run(tmp_path / "run", tracks(10), split="dev_last")
    comparison = compare_runs([seeds, folds, run])
    assert [one.scores["accuracy"] for one in comparison.runs] == [0.6, 0.8, 1]
    assert [one.judged for one in comparison.runs] == [
        "test, 2 seeds together",
        "held out in 2 folds",
        "dev, last epoch",
    ]
    assert [one.spread for one in comparison.runs] == [spread, spread, None]
    assert [(one.epochs, one.kept_epoch) for one in comparison.runs] == [(4, None), (4, None), (4, 3)]
    assert comparison.settings == {"seed": [[0, 1], 0, 0], "folds": [None, 2, None], "repeats": [None, 1, None]}
    assert [(test.only_first, test.only_second) for test in comparison.tests] == [(0, 2), (0, 4), (0, 2)]
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_the_page(tmp_path):
    hostile = "<script>alert(1)</script>$\\frac1"
    first = make_run(tmp_path / "<b>a", tracks(10, 2), note=hostile)
    second = make_run(tmp_path / "b\udcff", tracks(2, 10), note="{{ 7 * 7 }}")
    third = make_run(tmp_path / "c", tracks(3, genre="jazz"), history=False)
    write_page(tmp_path / "page.html", compare_runs([first, second, third]))
    page = PageReader((tmp_path / "page.html").read_text("utf-8", "surrogateescape"))
    assert page.is_self_contained and page.tags.count("img") == len(page.links) == 2
    assert hostile in page.text and "{{ 7 * 7 }}" in page.text and "b" not in page.tags
    assert f"{first} right, {second} wrong: 8; the other way: 0; p = 0.008" in page.text
    assert "not tested: they share only 0 tracks, of 12 and 3" in page.text
    assert "0.833" in page.text and "lr" not in page.text.split()
    write_page(tmp_path / "page.html", compare_runs([third, make_run(tmp_path / "d", tracks(1), history=False)]))
    page = PageReader((tmp_path / "page.html").read_text("utf-8"))
    assert page.links == [] and "were not scored on the same tracks" in page.text


def test_too_few_or_the_same(tmp_path):
    run = make_run(tmp_path / "a", tracks(3))
    with pytest.raises(MelvisionError, match="a: expected at least two runs"):
        compare_runs([run])
    with pytest.raises(MelvisionError, match="is given twice"):
        compare_runs([run, tmp_path / "." / "b" / ".." / "a"])
