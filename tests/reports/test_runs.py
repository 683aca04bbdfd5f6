"""Reading run folders, finished or not, whole or damaged; and the page of all runs."""

import json
import os
import shutil

import pytest

from render.errors import MelvisionError
from tests.reports.pages import PageReader
from tests.reports.run_folders import make_pooled, make_run, tracks
from vision.reports import metrics
from vision.reports.runs import read_run, refresh_index, write_index


@pytest.fixture
def run(tmp_path):
    """A folder of one run."""
    return make_run(tmp_path / "runs" / "a", tracks(6, 4))


def change(path, function):
    """Change what a JSON file holds."""
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def test_what_is_read(run):
    found = read_run(run)
    assert found.scores["accuracy"] == 0.6 and found.scores["n"] == 10 and found.kept_epoch == 3
    assert sum(found.right.values()) == 6 and ("blues", "blues00009") in found.right
    (history,) = found.histories
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert "dev_loss" not in history[1] and history[2]["dev_accuracy"] == 0.6


def test_what_is_no_finished_run(run, tmp_path):
    with pytest.raises(MelvisionError, match="nowhere: there is no such folder; expected"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(MelvisionError, match="is a file; expected"):
        read_run(run / "config.json")
    with pytest.raises(MelvisionError, match=f"there is no run in this folder; .* such as {run}"):
        read_run(tmp_path / "runs")
    (run / "metrics.json").unlink()
    with pytest.raises(MelvisionError, match="a: is not finished .* --resume "):
        read_run(run)
    (tmp_path / "folds" / "fold-1-01").mkdir(parents=True)
    with pytest.raises(MelvisionError, match="folds: is not finished .* vision.crossval"):
        read_run(tmp_path / "folds")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 5000, '{"test": 3, "kept_epoch": 1}', '{"kept_epoch": 1}', "\udcff"],
    ids=lambda text: text[:9].encode("ascii", "replace").decode(),
)
def test_damaged_scores(run, content):
    (run / "metrics.json").write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(MelvisionError, match="metrics.json: .*expected it as training wrote it"):
        read_run(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 1.5),
        ("accuracy", None),
        ("interval", [0.1]),
        ("n", 0),
        ("loss", float("nan")),
        ("macro_f1", "high"),
    ],
)
def test_scores_out_of_range(run, name, value):
    change(run / "metrics.json", lambda content: content["test"].update({name: value}))
    with pytest.raises(MelvisionError, match="metrics.json: .*(found|is missing|there is)"):
        read_run(run)


def test_damaged_settings(run):
    for content in ('{"config": 3}', '{"config": {"note": "\\ud800"}}', ""):
        (run / "config.json").write_text(content)
        with pytest.raises(MelvisionError, match="config.json: .*(found|missing|no JSON)"):
            read_run(run)
    (run / "config.json").unlink()
    with pytest.raises(MelvisionError, match="config.json: .*No such file"):
        read_run(run)


@pytest.mark.parametrize("keep", [0, 0.3, 0.6, 0.97])
def test_a_table_of_predictions_that_was_cut_short(run, keep):
    path = run / "predictions.csv"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(MelvisionError, match="predictions.csv: missing or damaged"):
        read_run(run).right  # noqa: B018


def test_predictions_of_something_else(run, tmp_path):
    other = make_run(tmp_path / "other", tracks(5, 5))
    shutil.copy(other / "predictions.csv", run / "predictions.csv")
    with pytest.raises(MelvisionError, match="5 of 10 tracks right, but 6 of 10 were scored"):
        read_run(run).right  # noqa: B018
    (run / "predictions.csv").unlink()
    with pytest.raises(MelvisionError, match="predictions.csv: missing"):
        read_run(run).right  # noqa: B018


def test_a_damaged_history(run):
    (run / "history.csv").write_text("epoch,dev_loss\n1,low\n")
    with pytest.raises(MelvisionError, match="history.csv: missing or damaged"):
        read_run(run).histories  # noqa: B018


def test_the_page_of_all_runs(tmp_path):
    runs = tmp_path / "runs"
    names = ["first", "a b#c?<i>", "javascript:alert(1)"]
    for age, name in enumerate(names):
        make_run(runs / name, tracks(6, 4), note=f"<script>{name}</script>")
        (runs / name / "report.html").write_text("")
        os.utime(runs / name / "metrics.json", (1e9 - 1e6 * age,) * 2)
    spread = metrics.mean_and_interval([0.5, 0.75])
    make_pooled(runs / "crossval-quick", tracks(3, 1), {"accuracy": spread}, folds=2)
    make_run(runs / "damaged", tracks(1))
    (runs / "damaged" / "metrics.json").write_text("{")
    make_run(runs / "unfinished", tracks(1))
    (runs / "unfinished" / "metrics.json").unlink()
    (runs / "notes.txt").write_text("no run")
    assert refresh_index(runs / "first") == f"all runs: {runs / 'index.html'}"
    text = (runs / "index.html").read_text("utf-8")
    page = PageReader(text)
    assert page.links == [
        "crossval-quick/report.html",
        "first/report.html",
        "a%20b%23c%3F%3Ci%3E/report.html",
        "javascript%3Aalert%281%29/report.html",
    ], "the newest first"
    assert not {"script", "i"} & set(page.tags)
    assert "4 finished runs" in page.text and "<script>first</script>" in page.text
    assert "damaged could not be read" in page.text and "unfinished" not in page.text
    assert "0.313 to 0.832" in page.text and "held out in 2 folds" in page.text
    assert not list(runs.glob(".melvision-*"))


def test_only_folders_called_runs_get_a_page_and_no_other_page_is_overwritten(run, tmp_path, monkeypatch):
    other = make_run(tmp_path / "mine" / "a", tracks(1))
    assert refresh_index(other) == "" and not (tmp_path / "mine" / "index.html").exists()
    page = run.parent / "index.html"
    monkeypatch.chdir(run.parent)
    assert refresh_index("a").startswith("all runs: ")
    assert refresh_index("a").startswith("all runs: "), "its own page is written anew"
    page.write_text("<title>My page</title>")
    assert refresh_index("a").startswith(f"note: {page}: could not be written")
    assert page.read_text() == "<title>My page</title>"
    page.unlink()
    page.mkdir()
    assert refresh_index("a").startswith("note: ")
    assert write_index(other.parent).read_text().count("<tr>") == 2
