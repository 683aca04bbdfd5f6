"""``vision.evaluate``: the scores of a run, and of other pictures."""

import json
import shutil

from tests.conftest import rows_of, write_tree
from vision import evaluate
from vision.inference.predictor import Predictor


def test_evaluate_equals_the_runs_own_scores(trained, capsys, tmp_path):
    run_scores = json.loads((trained / "run" / "metrics.json").read_text())
    assert evaluate.main([str(trained / "run"), "--data", str(trained / "data"), "--json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["trained_on"] == 0
    assert run_scores["test"].pop("experts").keys() == {"vgg_small", "texture"}
    assert {name: printed[name] for name in run_scores["test"]} == run_scores["test"]
    flags = ["--data", str(trained / "images"), "--csv", str(tmp_path / "all.csv")]
    assert evaluate.main([str(trained / "run"), *flags]) == 0
    printed = capsys.readouterr()
    assert "30 of 36 tracks are in the training set" in printed.err
    assert "n = 36" in printed.out
    assert len(rows_of(tmp_path / "all.csv")) == 36


def test_a_new_genre_does_not_touch_old_runs(trained, tmp_path):
    before = Predictor(trained / "run", "cpu")
    write_tree(tmp_path / "more", 3, ["blues", "jazz", "metal"])
    shutil.move(tmp_path / "more" / "jazz", tmp_path / "more" / "ambient")
    assert evaluate.main([str(trained / "run"), "--data", str(tmp_path / "more")]) == 2
    assert before.classes == ["blues", "jazz", "metal"]
    prediction = before.predict(trained / "images" / "metal" / "metal.00003.png")
    assert prediction.genre == "metal"
