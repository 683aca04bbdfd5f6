"""``vision.compare``: real runs side by side, and the page of all runs that training writes."""

import json
import shutil

import pytest

from tests.conftest import write_tree
from tests.reports.pages import PageReader
from vision import compare, crossval, train

SMALL = ["--recipe", "quick", "--model", "cnn2", "--no-texture", "--epochs", "1", "--size", "32", "--batch-size", "8"]
SMALL += ["--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """A folder ``runs`` with the shared run, one of one epoch, and a cross-validation of other pictures."""
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(trained / "run", root / "runs" / "first")
    data = ["--data", str(trained / "data")]
    assert train.main([*data, "--out", str(root / "runs" / "second"), *SMALL]) == 0
    images = write_tree(root / "images", 4, start=100)
    assert crossval.main([str(images), "--folds", "2", "--out", str(root / "runs" / "folds"), *SMALL]) == 0
    return root / "runs"


def names(runs, *which):
    return [str(runs / name) for name in which]


@pytest.mark.slow
def test_two_runs(runs, capsys):
    assert compare.main(names(runs, "first", "second")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    scores = json.loads((runs / "second" / "metrics.json").read_text())["test"]
    row = next(line for line in lines if line.startswith(str(runs / "second")))
    assert f"{scores['accuracy']:.3f}" in row and f"{scores['loss']:.3f}" in row
    assert [line.split()[1:] for line in lines if line.startswith("model ")] == [["vgg_small", "cnn2"]]
    assert [line.split()[1:] for line in lines if line.startswith("epochs ")] == [["12", "1"]]
    assert not [line for line in lines if line.startswith("lr ")], "it is the same"
    assert "on 3 tracks" in lines[-1] and "(exact McNemar)" in lines[-1]


@pytest.mark.slow
def test_json_and_a_page_of_all_that_lies_in_the_folder(runs, capsys, tmp_path):
    page = tmp_path / "compare.html"
    every = sorted(str(path) for path in runs.iterdir())
    assert str(runs / "index.html") in every, "as the pattern runs/* gives it"
    assert compare.main([*every, "--json", "--html", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in found["runs"]] == names(runs, "first", "folds", "second")
    for run in found["runs"][::2]:
        with open(f"{run['name']}/metrics.json") as file:
            scores = json.load(file)["test"]
        assert run["scores"] == {name: scores[name] for name in run["scores"]}
    assert found["differing_settings"]["folds"] == [None, 2, None]
    first_second = found["tests"][1]
    assert (first_second["n_shared"], first_second["n_first"]) == (3, 3)
    assert [test["p"] is None for test in found["tests"]] == [True, False, True]
    difference = round(3 * (found["runs"][0]["scores"]["accuracy"] - found["runs"][2]["scores"]["accuracy"]))
    assert first_second["only_first"] - first_second["only_second"] == difference
    reader = PageReader(page.read_text("utf-8"))
    assert reader.is_self_contained and len(reader.links) == 2


@pytest.mark.slow
def test_training_and_cross_validation_write_the_page_of_all_runs(runs):
    page = PageReader((runs / "index.html").read_text("utf-8"))
    assert page.links == ["folds/report.html", "second/report.html", "first/report.html"]


def test_wrong_use(trained, tmp_path, capsys):
    run = str(trained / "run")
    shutil.copytree(run, tmp_path / "unfinished", ignore=shutil.ignore_patterns("metrics.json"))
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "predictions.csv").write_text("split,file\ntest,a.png\n")
    for folders, message in (
        ([run], "expected at least two runs"),
        ([run, run], "is given twice"),
        ([run, str(tmp_path / "nowhere")], "nowhere: there is no such folder"),
        ([run, str(tmp_path)], "there is no run in this folder"),
        ([run, str(tmp_path / "unfinished")], "unfinished: is not finished"),
        ([run, str(tmp_path / "damaged")], "predictions.csv: missing or damaged"),
    ):
        assert compare.main(folders) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
        assert message in printed.err
    with pytest.raises(SystemExit) as stop:
        compare.main([])
    assert stop.value.code == 2
