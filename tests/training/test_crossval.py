"""Cross-validation: every track is scored once, by a model trained on neither it nor its duplicates."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from render.errors import MelvisionError
from tests.conftest import BANDS, read_pictures, spectrogram_of, write_picture, write_tree
from tests.training.runs import interrupt
from vision import crossval
from vision.reports import html
from vision.splits.folds import make_folds, select_pictures
from vision.splits.groups import read_groups
from vision.training import loop, repeats
from vision.training.config import config_of
from vision.training.loop import learn
from vision.training.repeats import cross_validate, run_fold

QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
QUICK += ["--model", "cnn2", "--no-texture", "--epochs", "2"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """12 pictures a genre, and some that belong to them: a piece, a copy, an equal picture of another name.

    Three of each genre look like another's, so that not all can be right.
    """
    root = write_tree(tmp_path_factory.mktemp("crossval") / "images", 12)
    for genre, other in zip(BANDS, [*BANDS][1:] + [*BANDS][:1], strict=True):
        for number in (9, 10, 11):
            write_picture(root / genre / f"{genre}.{number:05}.png", spectrogram_of(other, number + 20))
        write_picture(root / genre / f"{genre}.00001.2.png", spectrogram_of(genre, 100))
        for copy in (1, 2):
            write_picture(root / genre / f"{genre}.00002+aug{copy}.png", spectrogram_of(genre, 100 + copy))
        shutil.copy(root / genre / f"{genre}.00003.png", root / genre / "equal.png")
    return root


@pytest.fixture(scope="module")
def artists(images):
    """A file of groups: two artists of three jazz tracks each, one of metal."""
    lines = [f"jazz.{number:05}.wav,{artist}" for number, artist in zip((4, 5, 6, 1, 7, 8), "AAABBB", strict=True)]
    path = images.parent / "artists.csv"
    path.write_text("\n".join(["track,group", *lines, "metal/metal.00004,C", "metal/metal.00005,C"]) + "\n")
    return path


#: Pictures that are to stay together, by the ends of their names.
TOGETHER = [[f"{genre}.00001.png", f"{genre}.00001.2.png"] for genre in BANDS]
TOGETHER += [[f"{genre}.00002.png", f"{genre}.00002+aug1.png", f"{genre}.00002+aug2.png"] for genre in BANDS]
TOGETHER += [[f"{genre}/{genre}.00003.png", f"{genre}/equal.png"] for genre in BANDS]
ARTISTS = [["jazz.00004.png", "jazz.00005.png", "jazz.00006.png"], ["metal.00004.png", "metal.00005.png"]]
ARTISTS += [["jazz.00001.2.png", "jazz.00001.png", "jazz.00007.png", "jazz.00008.png"]]


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary_of(out):
    return json.loads((out / "summary.json").read_text())


def run(images, out, *more):
    return crossval.main([str(images), "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module")
def whole(images, artists, tmp_path_factory):
    """Three folds that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(images, out, "--folds", "3", "--groups", str(artists)) == 0
    return out


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_cut(images, artists, folds, grouped):
    pictures = read_pictures(images, size=32)
    names = pictures.paths
    groups = read_groups(artists) if grouped else {}
    everything = set(range(len(names)))
    copies = {number for number, name in enumerate(names) if "+aug" in name}
    assert len(copies) == 6
    found = []
    for repeat in range(3):
        pairs = make_folds(pictures, groups=groups, folds=folds, repeat=repeat, seed=0)
        assert len(pairs) == folds
        scored = [number for _, held_out in pairs for number in held_out]
        assert sorted(scored) == sorted(everything - copies), "each once, copies never"
        for learned, held_out in pairs:
            assert not set(learned) & set(held_out)
            assert everything - set(learned) - set(held_out) <= copies, "nothing is wasted but copies of the held out"
            for ends in TOGETHER + (ARTISTS if grouped else []):
                members = {number for number, name in enumerate(names) if name.endswith(tuple(ends))}
                assert len(members) == len(ends)
                assert members <= set(learned) or not members & set(learned), ends
            counts = Counter(pictures.y[held_out].tolist())
            assert min(counts[label] for label in range(3)) >= 12 // folds - 2, "genres as frequent in every fold"
        assert make_folds(pictures, groups=groups, folds=folds, repeat=repeat, seed=0) == pairs
        found.append(sorted(sorted(held_out) for _, held_out in pairs))
    assert found[0] != found[1] != found[2], "each repeat cuts anew"


def test_more_folds_than_groups(images, artists):
    """Of 13 tracks of jazz two artists leave ten groups, of the other genres more."""
    pictures = read_pictures(images, size=32)
    assert len(make_folds(pictures, groups={}, folds=12, repeat=0, seed=0)) == 12
    with pytest.raises(MelvisionError, match="at most 12, because blues has 12 groups"):
        make_folds(pictures, groups={}, folds=13, repeat=0, seed=0)
    with pytest.raises(MelvisionError, match="at most 8, because jazz has 8 groups"):
        make_folds(pictures, groups=read_groups(artists), folds=9, repeat=0, seed=0)


def test_what_is_left_and_that_its_figures_are_scikit_learns(images, whole):
    expected = "summary.json evaluation_report.txt confusion_matrix.png spread_plot.png predictions.csv report.html"
    assert {path.name for path in whole.iterdir()} == set(expected.split())
    rows = rows_of(whole / "predictions.csv")
    originals = [path for path in images.rglob("*.png") if "+aug" not in path.name]
    assert sorted(row["file"] for row in rows) == sorted(map(str, originals))
    assert all(row["genre"] == Path(row["file"]).parent.name for row in rows)
    for row in rows:
        assert max(BANDS, key=lambda genre, row=row: float(row[genre])) == row["predicted"]
    summary = summary_of(whole)
    truth, predicted = [row["genre"] for row in rows], [row["predicted"] for row in rows]
    assert len(rows) == 42
    assert summary["pooled"]["pieces"] == {"accuracy": accuracy_score(truth, predicted), "n": 42}
    tracks = {(row["genre"], row["track"]): row for row in rows}
    truth, predicted = [row["genre"] for row in tracks.values()], [row["track_predicted"] for row in tracks.values()]
    assert summary["pooled"]["accuracy"] == accuracy_score(truth, predicted)
    assert summary["pooled"]["n"] == len(tracks) == 36
    assert 0.4 < summary["pooled"]["accuracy"] < 1
    folds = summary["accuracy"]
    assert len(folds["values"]) == 3
    assert folds["mean"] == pytest.approx(np.mean(folds["values"]))
    assert folds["std"] == pytest.approx(np.std(folds["values"], ddof=1))
    # Student's t: 4.3027 for two degrees of freedom.
    half = 4.3027 * folds["std"] / 3**0.5
    assert folds["interval"] == pytest.approx([folds["mean"] - half, folds["mean"] + half], abs=1e-4)
    printed = (whole / "evaluation_report.txt").read_text()
    assert "no epoch was chosen on what it is scored on" in printed
    assert f"{folds['mean']:.3f} +- {folds['std']:.3f}" in printed
    assert summary["about"]["folds"] == 3
    assert "groups of artists.csv" in (whole / "report.html").read_text()


def test_no_model_was_trained_on_what_it_is_scored_on(images, artists, tmp_path, monkeypatch, capsys):
    learned = []
    real = learn

    def spy(config, recipe, train, dev, *args, **how):
        learned.append(train.paths)
        assert dev is None
        return real(config, recipe, train, dev, *args, **how)

    scored = []
    select = select_pictures

    def watch(pictures, numbers):
        part = select(pictures, numbers)
        scored.append(part.paths)
        return part

    monkeypatch.setattr(repeats, "learn", spy)
    monkeypatch.setattr(repeats, "select_pictures", watch)
    assert run(images, tmp_path / "out", "--folds", "2", "--repeats", "2", "--groups", str(artists)) == 0
    scored.pop()  # all of them, for the report
    assert scored[::2] == learned and len(learned) == 4
    for train, held_out in zip(learned, scored[1::2], strict=True):
        assert not set(train) & set(held_out)
    assert sorted(scored[1] + scored[3]) == sorted(scored[5] + scored[7])
    printed = capsys.readouterr().out
    lines = re.findall(r"fold (\d) of 2, repeat (\d): ([\d.]+) \(.*n = (\d+)", printed)
    assert [(fold, repeat) for fold, repeat, _, _ in lines] == [("1", "1"), ("2", "1"), ("1", "2"), ("2", "2")]
    assert sum(int(n) for *_, n in lines) == 2 * 36
    summary = summary_of(tmp_path / "out")
    assert summary["accuracy"]["values"] == pytest.approx([float(value) for *_, value, _ in lines], abs=6e-4)
    assert summary["pooled"]["n"] == 36
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert all(sum(float(row[genre]) for genre in BANDS) == pytest.approx(1, abs=1e-3) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "after", "left"),
    [(repeats, "run_fold", 1, 2), (loop, "write_state", 3, 2), (html, "write_page", 0, 0)],
    ids=["between folds", "within a fold", "before the report"],
)
def test_an_interrupted_one_goes_on(images, artists, whole, tmp_path, monkeypatch, owner, name, after, left):
    out = tmp_path / "out"
    more = ["--folds", "3", "--groups", str(artists)]
    calls = []

    def spy(*args, real=learn, **how):
        calls.append(args[4].out)
        return real(*args, **how)

    interrupt(monkeypatch, owner, name, after)
    assert run(images, out, *more) == 130
    monkeypatch.undo()
    monkeypatch.setattr(repeats, "learn", spy)
    assert run(images, out, *more) == 0
    assert len(calls) == left, "finished folds are not done again"
    assert summary_of(out) == summary_of(whole)
    for file in ("predictions.csv", "evaluation_report.txt"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def test_it_does_not_go_on_with_other_settings(images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    real, calls = run_fold, []

    def stop(*args):
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(repeats, "run_fold", stop)
    assert run(images, out, "--folds", "2") == 130
    monkeypatch.undo()
    for more in (["--lr", "0.1"], ["--fold-seed", "1"], ["--seed", "1"]):
        capsys.readouterr()
        assert run(images, out, "--folds", "2", *more) == 2
        error = capsys.readouterr().err
        refused = [line for line in error.splitlines() if not line.startswith("note: ")]
        assert len(refused) == 1 and "was done with other settings or pictures" in refused[0]


def test_a_complete_one_is_not_done_again(images, whole, capsys):
    before = summary_of(whole)
    assert run(images, whole, "--folds", "2") == 2
    assert "is complete already" in capsys.readouterr().err
    assert summary_of(whole) == before


def test_what_others_put_into_the_folder_stays(images, tmp_path):
    out = tmp_path / "out"
    (out / "fold-of-mine").mkdir(parents=True)
    (out / "fold-of-mine" / "letter.txt").write_text("dear")
    assert run(images, out, "--folds", "2") == 0
    assert (out / "fold-of-mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--folds", "1"], "--folds 1: expected at least 2"),
        (["--repeats", "0"], "--repeats 0: expected at least 1"),
        (["--folds", "13"], "--folds 13: expected at most 12, because blues has 12 groups of tracks"),
        (["--patience", "2"], "--patience 2: expected 0"),
        (["--groups", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--epochs", "0"], "--epochs 0"),
        (["--device", "warp"], "--device warp: expected one that is available here"),
        (["--folds", "2", "--model", "resnet9000"], "--model resnet9000: expected one of vgg,"),
    ],
)
def test_wrong_use(images, tmp_path, capsys, more, message):
    assert run(images, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out" / "summary.json").exists()


def test_wrong_folders(images, tmp_path, capsys):
    assert run(tmp_path / "nowhere", tmp_path / "out") == 2
    assert f"{tmp_path}/nowhere: there is no such folder" in capsys.readouterr().err
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / split).symlink_to(images)
    assert run(tmp_path / "data", tmp_path / "out") == 2
    assert "holds train, dev, test; name the folder of genre folders" in capsys.readouterr().err
    write_tree(tmp_path / "one", 4, ["jazz"])
    assert run(tmp_path / "one", tmp_path / "out", "--folds", "2") == 2
    assert "one genre only" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        crossval.main([])
    assert stop.value.code == 2


def test_bad_pictures_cost_themselves_only(tmp_path, capsys):
    write_tree(tmp_path / "images", 4, ["jazz", "metal"])
    (tmp_path / "images" / "jazz" / "bad.png").write_bytes(b"nothing")
    assert run(tmp_path / "images", tmp_path / "out", "--folds", "2", "--note", "only a test") == 1
    printed = capsys.readouterr()
    assert "failed: " in printed.err and "bad.png: cannot be read" in printed.err
    assert summary_of(tmp_path / "out")["pooled"]["n"] == 8
    assert "only a test" in (tmp_path / "out" / "report.html").read_text()


def test_the_library_prints_nothing_and_returns_the_scores(images, artists, whole, tmp_path, capfd):
    config = config_of(crossval.get_parser().parse_args(["images", *QUICK]))
    result = cross_validate(images, config, folds=3, groups=[artists], out=tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    summary = summary_of(whole)
    assert result.accuracy == summary["accuracy"]
    assert result.scores == summary["pooled"]
    assert (result.run, result.problems) == (tmp_path / "out", [])
    assert config.data == "data", "what is given is not changed"
