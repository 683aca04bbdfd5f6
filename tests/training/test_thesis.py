"""A run in LaTeX: that its figures are the run's, and that no name breaks it."""

import json
import re
import shutil
import subprocess

import pytest
from sklearn.metrics import classification_report

from tests.conftest import rows_of
from tests.reports.run_folders import make_pooled, tracks
from vision import report
from vision.reports import metrics
from vision.training.thesis import SOURCES, escape, write_thesis


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    """What is written of a run, by the name of the file."""
    out = tmp_path_factory.mktemp("thesis")
    assert report.main([str(trained / "run"), "--thesis", "-o", str(out)]) == 0
    return {path.name: path.read_text("utf-8") for path in out.iterdir()}


def test_the_tables_hold_the_scores_of_the_run(trained, written):
    scores = json.loads((trained / "run" / "metrics.json").read_text())["test"]
    assert f"Accuracy & {scores['accuracy']:.3f} & " in written["scores.tex"]
    assert f"Macro F1 & {scores['macro_f1']:.3f} & " in written["scores.tex"]
    rows = [row for row in rows_of(trained / "run" / "predictions.csv") if row["split"] == "test"]
    expected = classification_report(
        [row["genre"] for row in rows], [row["track_predicted"] for row in rows], output_dict=True, zero_division=0
    )
    for genre in {row["genre"] for row in rows}:
        one = expected[genre]
        assert (
            f"{genre} & {one['precision']:.3f} & {one['recall']:.3f} & {one['f1-score']:.3f}" in written["genres.tex"]
        )


def test_the_methods_say_what_the_run_recorded(trained, written):
    about = json.loads((trained / "run" / "config.json").read_text())
    text, config = written["methods.tex"], about["config"]
    assert f"for {config['epochs']} epochs" in text and f"batches of {config['batch_size']}" in text
    assert f"PyTorch {about['versions']['torch']}".replace("_", r"\_") in text
    counts = {row["split"] for row in rows_of(trained / "run" / "split.csv")}
    assert counts == {"train", "dev", "test"} and "for testing" in text and "scored once" in text
    cited = set(re.findall(r"\\cite\{(\w+)\}", text))
    assert cited == set(re.findall(r"^@\w+\{(\w+),", written["references.bib"], re.M)) <= set(SOURCES)
    for name, content in written.items():
        assert content.count("{") == content.count("}"), name


def test_seeds_and_folds(tmp_path):
    spread = metrics.mean_and_interval([0.5, 0.75])
    folds = make_pooled(tmp_path / "folds", tracks(8, 2), {"accuracy": spread}, folds=2, repeats=1)
    write_thesis(folds, tmp_path / "out")
    text = (tmp_path / "out" / "methods.tex").read_text()
    assert "cross-validation with 2 folds" in text and "10 held-out tracks" in text
    assert "mean of 2 folds & 0.625 $\\pm$ 0.177" in (tmp_path / "out" / "scores.tex").read_text()


def test_special_characters_are_escaped():
    assert escape(r"R&B_50%$#{x}~^\n") == (r"R\&B\_50\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}n")
    assert "\n" not in escape("a\nb")


@pytest.mark.parametrize(("kind", "begins"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plots_in_other_formats(trained, tmp_path, kind, begins):
    assert report.main([str(trained / "run"), "--plots-as", kind, "-o", str(tmp_path)]) == 0
    paths = sorted(path.name for path in tmp_path.iterdir())
    assert paths == sorted(f"{name}.{kind}" for name in ("accuracy_plot", "confusion_matrix", "loss_plot"))
    assert all(path.read_bytes().startswith(begins) for path in tmp_path.iterdir())


@pytest.mark.parametrize("flags", [[], ["--thesis"]])
def test_mistakes_are_told_in_one_line(tmp_path, capsys, flags):
    assert report.main([str(tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_takes_it(written, tmp_path):
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    body = "".join(f"\\input{{{name}}}\n" for name in ("methods", "scores", "genres"))
    main = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "main.tex").write_text(main)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]
