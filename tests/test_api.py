"""The public API, as ``docs/`` and README.md describe it: what ``import vision`` offers to Python."""

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import render
import vision
from render.errors import MelvisionError, ParameterError
from tests.conftest import rows_of
from vision import (
    InputSpec,
    Prediction,
    Predictor,
    Preprocessor,
    SpectrogramFolder,
    TrainConfig,
    create_model,
    cross_validate,
    evaluate,
    fit,
    inspect_folder,
    load_model,
    predict,
    score_run,
    split_folder,
    train,
)

ROOT = Path(__file__).parents[1]
SMALL = {
    "epochs": 1,
    "size": 32,
    "batch_size": 8,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
    "experts": "network",
}


def run_python(code, **environment):
    """Run code in a fresh interpreter; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "run", "cpu")


@pytest.fixture(scope="module")
def pictures(trained):
    return sorted((trained / "data" / "test").rglob("*.png"))


# Importing


def test_importing_vision_imports_neither_torch_nor_numpy():
    code = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import vision\n"
        "seconds = time.perf_counter() - start\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'PIL', 'scipy', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(seconds)\n"
    )
    # The quickest of three: the machine may be busy.
    assert min(float(run_python(code)) for _ in range(3)) < 0.1


def test_type_checkers_see_the_same_names():
    """They do not run `__getattr__`: the imports that are for them alone must be those of the lazy names."""
    tree = ast.parse(Path(vision.__file__).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    assert {alias.asname: node.module for node in imports for alias in node.names} == vision._PUBLIC


def test_public_names_are_there_and_none_is_a_modules():
    modules = {name for _, name, _ in pkgutil.iter_modules([*vision.__path__, *render.__path__])}
    assert not set(vision.__all__) & modules
    for name in vision.__all__:
        value = getattr(vision, name)
        assert value.__name__ == name and value.__doc__
        assert value.__module__.split(".")[0] in ("vision", "render")
    assert set(vision.__all__) <= set(dir(vision))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vision.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import vision.training.run, vision.split; from vision import *; assert fit is vision.training.run.fit",
        "from vision import fit, Predictor; import vision.training.run; assert fit is vision.training.run.fit",
    ],
)
def test_names_and_modules_are_imported_in_either_order(code):
    run_python(code)


@pytest.mark.slow
def test_importing_the_library_changes_nothing_in_the_process():
    """Environment variables, warning filters, signal handlers and allocator settings are up to the program."""
    modules = [
        f"vision.{path.relative_to(ROOT / 'vision').with_suffix('').as_posix().replace('/', '.')}"
        for path in sorted((ROOT / "vision").glob("*/*.py"))
        if path.stem != "__init__"
    ]
    assert "vision.training.run" in modules
    code = (
        "import importlib, logging, os, signal, warnings\n"
        # First what the library needs: other people's packages may do as they like.
        "import joblib, librosa, matplotlib.figure, PIL.Image, sklearn.metrics, torch, torchvision\n"
        "def state():\n"
        "    handlers = signal.getsignal(signal.SIGINT), logging.root.handlers[:]\n"
        "    return dict(os.environ), list(warnings.filters), handlers, torch.get_num_threads()\n"
        "before = state()\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "after = state()\n"
        "for one, other in zip(before, after): assert one == other, (one, other)\n"
    )
    run_python(code, PYTORCH_ENABLE_MPS_FALLBACK="0")


# Predicting


@pytest.mark.parametrize("kind", [str, Path])
def test_one_path_gives_one_prediction(predictor, pictures, kind):
    """A string is a path, not a sequence of letters."""
    prediction = predictor.predict(kind(pictures[0]))
    assert isinstance(prediction, Prediction)
    assert prediction.path == pictures[0] and prediction.error == ""
    assert prediction.genre == pictures[0].parent.name
    assert list(prediction.probabilities) != [] and set(prediction.probabilities) == set(predictor.classes)
    assert (
        prediction.probability == max(prediction.probabilities.values()) == prediction.probabilities[prediction.genre]
    )
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_many_paths_give_a_list_and_a_frame(predictor, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    predictions = predictor.predict([*map(str, pictures), bad])
    assert [one.path for one in predictions] == [*pictures, bad]
    assert [one.genre for one in predictions] == [path.parent.name for path in pictures] + [None]
    assert predictions[-1].error and predictions[-1].probabilities == {} and predictions[-1].probability is None
    pytest.importorskip("pandas")
    frame = predictions.to_frame()
    assert list(frame.columns) == ["file", "genre", "probability", *predictor.classes, "error"]
    assert frame["file"].tolist() == [str(path) for path in [*pictures, bad]]
    assert frame["genre"].tolist()[:-1] == [path.parent.name for path in pictures]
    assert frame["probability"][0] == predictions[0].probability


def test_samples_are_predicted_like_a_file_of_them(predictor, tmp_path):
    sr = 22050
    y = np.random.default_rng(0).normal(0, 0.1, 3 * sr).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", y, sr, subtype="FLOAT")
    from_file, from_samples = predictor.predict(tmp_path / "a.wav"), predictor.predict(y, sr=sr)
    assert from_samples.path is None
    assert from_samples.probabilities == from_file.probabilities
    stereo = predictor.predict([np.stack([y, y], axis=1), tmp_path / "a.wav"], sr=sr)
    assert all(one.p == pytest.approx(from_file.p, abs=1e-6) for one in stereo)
    with pytest.raises(MelvisionError, match="sr=None"):
        predictor.predict(y)


def test_a_timeline_covers_the_track(predictor, tmp_path):
    sr = 22050
    y = np.random.default_rng(0).normal(0, 0.1, 25 * sr).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", y, sr)
    prediction = predictor.predict(tmp_path / "a.wav")
    stretches = prediction.timeline()
    assert stretches[0][0] == 0 and stretches[-1][1] == pytest.approx(prediction.seconds, abs=1)
    assert all(one[1] == other[0] for one, other in zip(stretches, stretches[1:], strict=False))
    assert {genre for _, _, genre, _ in stretches} <= set(predictor.classes)
    with pytest.raises(MelvisionError, match="no timeline"):
        predictor.predict(tmp_path / "missing.wav").timeline()


# Training and scoring


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    config = TrainConfig(data=str(trained / "data"), **SMALL | {"epochs": 2})
    return fit(config, tmp_path_factory.mktemp("fit") / "run")


def test_fit_returns_scores_history_and_the_runs_path(result):
    assert (result.run / "model.pt").exists() and (result.run / "report.html").exists()
    assert result.scores == json.loads((result.run / "metrics.json").read_text())
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert [set(row) for row in result.history] == [set(row) for row in rows_of(result.run / "history.csv")]


def test_score_run_gives_the_runs_own_scores(trained, result, tmp_path):
    scored = score_run(result.run, device="cpu")
    assert scored.split == "test" and scored.folder == trained / "data" / "test"
    assert scored.scores == result.scores["test"] and scored.accuracy == result.scores["test"]["accuracy"]
    assert scored.trained_on == 0 and scored.problems == []
    assert len(scored.notes) == 1 and "too few to tell" in scored.notes[0]
    assert set(scored.table) >= {*scored.classes, "macro avg"}
    paths, y, probabilities, _ = scored.predictions
    assert len(paths) == len(y) == len(probabilities) == scored.scores["n"]
    dev = score_run(result.run, split="dev", device="cpu")
    assert dev.chosen_on and dev.scores == result.scores["dev"]
    every = score_run(result.run, trained / "images", device="cpu")
    assert every.split == str(trained / "images") and every.trained_on == 30
    assert "optimistic" in every.notes[0]
    with pytest.raises(MelvisionError, match="no test folder"):
        score_run(result.run, trained / "images", split="test", device="cpu")


def test_load_model_gives_a_network_and_its_spec(result, pictures):
    import torch
    from PIL import Image

    model, spec = load_model(result.run)
    x = Preprocessor(spec.input)(Image.open(pictures[0]))
    with torch.inference_mode():
        logits = model(x[None].float() / 255)
    assert logits.shape == (1, len(spec.classes))
    fresh = create_model(3, name="cnn2", mean=[0.5], std=[0.2], channels=1, size=32, dropout=0.1, texture=0)
    assert fresh.eval()(x[None].float() / 255).shape == (1, 3)


def test_the_preprocessor_is_a_transform_of_an_image_folder(images):
    folder = SpectrogramFolder(images, transform=Preprocessor(InputSpec(size=32)))
    x, label = folder[0]
    assert x.shape == (1, 32, 32) and folder.classes[label] == "blues"


def test_folders_are_inspected_split_and_cross_validated(images, tmp_path):
    report = inspect_folder(images)
    assert len(report.pictures) == 30
    split = split_folder(images, tmp_path / "data", seed=1)
    assert {genre: sum(counts.values()) for genre, counts in split.counts().items()} == dict.fromkeys(report.genres, 10)
    assert (tmp_path / "data" / "train" / "blues").is_dir() and not split.problems
    validated = cross_validate(images, TrainConfig(**SMALL), folds=2, out=tmp_path / "cv")
    assert len(validated.accuracy["values"]) == 2 and validated.scores["n"] == 30
    assert (validated.run / "report.html").exists()


# Errors and silence


@pytest.mark.parametrize(
    "call",
    [
        lambda data: fit(TrainConfig(data=str(data), batch_size=1)),
        lambda data: cross_validate(data, TrainConfig(batch_size=1)),
    ],
)
def test_errors_name_parameters(images, call):
    with pytest.raises(ParameterError, match="batch_size=1: expected") as caught:
        call(images)
    assert isinstance(caught.value, MelvisionError) and isinstance(caught.value, ValueError)


def test_commands_name_flags(capsys):
    assert train.main(["--batch-size", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --batch-size 1: expected") and "batch_size" not in error


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: Predictor(folder / "missing"),
        lambda folder: load_model(folder / "missing"),
        lambda folder: score_run(folder / "missing"),
        lambda folder: fit(TrainConfig(data=str(folder / "missing"))),
        lambda folder: split_folder(folder / "missing", folder / "data"),
        lambda folder: inspect_folder(folder / "missing"),
        lambda folder: cross_validate(folder / "missing", TrainConfig()),
        lambda folder: SpectrogramFolder(folder / "missing"),
        lambda folder: TrainConfig.from_recipe("other"),
    ],
)
def test_mistakes_are_melvision_errors_that_name_what_is_missing(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MelvisionError, match="missing|other"):
        call(tmp_path)


@pytest.mark.slow
def test_the_library_prints_nothing_even_on_a_terminal(trained, pictures, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # where commands show a bar
    inspect_folder(trained / "images")
    split_folder(trained / "images", tmp_path / "data")
    result = fit(TrainConfig(data=str(tmp_path / "data"), **SMALL), tmp_path / "run")
    Predictor(result.run, "cpu").predict(pictures)
    score_run(result.run, device="cpu")
    cross_validate(trained / "images", TrainConfig(**SMALL), folds=2, out=tmp_path / "cv")
    assert capfd.readouterr() == ("", "")


def test_commands_print_what_the_library_returns(trained, pictures, capfd):
    assert predict.main([str(trained / "run"), str(pictures[0]), "--device", "cpu"]) == 0
    assert pictures[0].parent.name in capfd.readouterr().out
    assert evaluate.main([str(trained / "run"), "--device", "cpu"]) == 0
    assert "test" in capfd.readouterr().out
