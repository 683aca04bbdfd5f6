"""Exported files give the probabilities of the run, hold what predicting needs, and damaged ones are refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from render.errors import MelvisionError
from tests.conftest import DATA, needs_data, read_pictures
from vision import evaluate, predict
from vision.data.pixel_store import to_pixels
from vision.data.preprocess import InputSpec
from vision.export import main
from vision.inference import onnx as exported
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.models.fitted import fit_experts
from vision.models.spec import ModelSpec
from vision.models.svm import train_windows
from vision.training.loop import Optimisation, batches, train_one_epoch

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e .[export]")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e .[export]")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install -e .[export]")

#: An export takes some 5 s.
pytestmark = pytest.mark.slow

#: Name and channels.
CASES = [("vgg", 1), ("vgg_dense", 1), ("cnn2", 3), ("cnn3", 1), ("crnn", 1), ("resnet18", 1)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    """The fixture's run, exported through the command line."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    assert main([str(trained / "run"), "-o", str(path)]) == 0
    return path


@pytest.fixture
def changed(file, tmp_path):
    """A function that writes a copy of the file with a change to its protocol buffer."""

    def write(change):
        model = onnx.load(file)
        change(model)
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def learnt(name, texture, pictures, channels=1):
    """A model after a few training steps on some pictures, and its spec."""
    torch.manual_seed(0)
    points = len(train_windows(pictures.x)) if texture else 0
    experts = {name: 0.5, "texture": 0.5} if texture else {name: 1.0}
    arguments = {"name": name, "texture": points, "dropout": 0.1, "experts": experts}
    mean, std = pictures.x.mean_and_std()
    spec = InputSpec(pictures.x.height, channels, window=5.0)
    spec = ModelSpec(pictures.classes, arguments | {"mean": mean, "std": std}, spec)
    model = checkpoint.build(spec)
    fit_experts(model, pictures.x, pictures.y)
    criterion = torch.nn.CrossEntropyLoss(reduction="sum")
    for _ in range(3):
        optimisation = Optimisation(criterion, torch.optim.AdamW(model.parameters(), 1e-3))
        train_one_epoch(model, pictures, batches(torch.randperm(len(pictures.y)), 8), optimisation)
    return model.eval(), spec


def windows_of(x, n):
    """As many windows of some pictures, (n, channels, size, size), uint8."""
    numbers = [number % len(x) for number in range(n)]
    return x.cut(numbers, [x.starts(number)[-1] for number in numbers])


def agrees(network, model, x):
    """Compare batches of different sizes, which an exported graph may have been fixed to."""
    for n in (1, 2, 65):
        pixels = windows_of(x, n)
        with torch.inference_mode():
            expected = model(to_pixels(pixels, "cpu")).softmax(dim=1).numpy()
        result, *distance = network.run(pixels.numpy())
        assert result.dtype == np.float32 and result.shape == (n, 3)
        assert np.abs(result - expected).max() < 2e-5
        if model.space is not None:
            with torch.inference_mode():
                far = model.answer(to_pixels(pixels, "cpu"))[2].numpy()
            assert distance[0] == pytest.approx(far, rel=1e-3)
    assert expected.std(axis=0).max() > 0.01, "it tells pictures apart"


def test_an_exported_run_gives_the_same_probabilities(file, trained):
    """With the texture SVM of the standard preset."""
    model, spec = checkpoint.load_model(trained / "run")
    assert spec.model["texture"]
    agrees(exported.load(file), model, read_pictures(trained / "images", size=32, window=spec.input.window).x)


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_every_exported_model_gives_the_same_probabilities(images, tmp_path, name, channels):
    pictures = read_pictures(images, size=32, window=1.0, channels=channels)
    model, spec = learnt(name, False, pictures, channels)
    assert exported.save(tmp_path / "m.onnx", [model], spec) <= exported.TOLERANCE
    network = exported.load(tmp_path / "m.onnx")
    assert network.spec == spec
    agrees(network, model, pictures.x)


@needs_data
def test_real_pictures(tmp_path):
    """The standard preset's model, on 10 s windows of pictures by another program."""
    for genre in ("blues", "classical", "metal"):
        (tmp_path / "images" / genre).mkdir(parents=True)
        for path in sorted((DATA / "gtzan_images" / genre).glob("*.png"))[:10]:
            shutil.copy(path, tmp_path / "images" / genre)
    pictures = read_pictures(tmp_path / "images", size=32, window=10.0)
    model, spec = learnt("vgg", True, pictures)
    exported.save(tmp_path / "m.onnx", [model], spec)
    network = exported.load(tmp_path / "m.onnx")
    expected = predict_proba(model, pictures.x).numpy()
    result = pictures.x.mean_over_windows(lambda windows: network.predict_windows(pictures.x, windows)).numpy()
    assert len(result) == 30 and len(pictures.x.starts(0)) == 3 and expected.std(axis=0).max() > 0.1
    assert np.abs(result - expected).max() < 1e-4


def test_what_other_programs_read(file, trained):
    """Inputs and outputs of the graph, dynamic batches, class names and the spec."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (pixels,), (probabilities, distance) = session.get_inputs(), session.get_outputs()
    assert (distance.name, distance.shape) == ("distance", ["batch"])
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["batch", 1, 32, 32])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["batch", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    _, spec = checkpoint.load_model(trained / "run")
    assert json.loads(metadata["classes"]) == spec.classes == ["blues", "jazz", "metal"]
    assert json.loads(metadata["spec"])["input"] == spec.input.to_dict()
    assert metadata["precision"] == "fp32" and metadata["models"] == "1" and metadata["melvision"]
    for n in (1, 2, 65):
        result, distance = session.run(None, {"pixels": np.zeros((n, 1, 32, 32), np.uint8)})
        assert np.allclose(result.sum(axis=1), 1, atol=1e-5)


def test_it_is_plain_onnx_that_older_runtimes_read(file):
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10 and [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    text = file.read_bytes()
    assert b"stack_trace" not in text and b"models.py" not in text, "nothing of the folders it was made in"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(file, threads):
    x = exported.trial_pictures(exported.load(file).spec)
    for one, other in zip(exported.load(file, threads).run(x), exported.load(file).run(x), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6)


def test_predict_gives_the_same_for_both(file, trained, capsys):
    pictures = sorted(str(path) for path in (trained / "data" / "test").rglob("*.png"))
    predictions = []
    for run in (trained / "run", file):
        assert predict.main([str(run), *pictures, "--json", "--device", "cpu"]) == 0
        predictions.append(json.loads(capsys.readouterr().out))
    for ours, theirs in zip(*predictions, strict=True):
        assert ours["predicted"] == theirs["predicted"] and ours["notes"] == theirs["notes"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_evaluate_gives_the_same_scores_for_both(file, trained, capsys):
    scores = []
    for run in (trained / "run", file):
        assert evaluate.main([str(run), "--json"]) == 0, "it knows what it was trained on"
        captured = capsys.readouterr()
        scores.append(json.loads(captured.out))
    assert scores[0]["trained_on"] == 0 and scores[1]["trained_on"] is None
    assert "no split.csv beside" in captured.err
    for name in ("data", "n", "accuracy", "macro_f1"):
        assert scores[0][name] == scores[1][name]


def test_seeds_become_one_graph(images, tmp_path, capsys):
    pictures = read_pictures(images, size=32, window=1.0)
    model, spec = learnt("cnn2", False, pictures)
    for seed in (0, 1):
        (tmp_path / "runs" / f"seed-{seed}").mkdir(parents=True)
        checkpoint.save(tmp_path / "runs" / f"seed-{seed}" / "model.pt", model, spec)
        model = checkpoint.build(spec)  # the second is not trained
    (tmp_path / "runs" / "seeds.json").write_text("{}")
    assert main([str(tmp_path / "runs")]) == 0
    assert "2 models, 3 genres" in capsys.readouterr().out
    both, one = (Predictor(tmp_path / run, "cpu").probabilities(pictures.x) for run in ("runs", "runs/seed-0"))
    mean = Predictor(tmp_path / "runs" / "model.onnx").probabilities(pictures.x)
    assert np.abs(mean - both).max() < 1e-5 < 1e-3 < np.abs(mean - one).max()


def test_predicting_needs_no_networks_of_pytorch(file, trained):
    picture = next((trained / "images").rglob("*.png"))
    code = (
        "import sys; from vision import predict\n"
        "assert predict.main(sys.argv[1:]) == 0\n"
        "needless = {'torchvision', 'torch._dynamo', 'vision.models.classifier', 'vision.models.checkpoint'}\n"
        "print(*sorted(needless & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file), str(picture)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert picture.name in done.stdout and done.stdout.splitlines()[-1] == ""


def elsewhere(model):
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")


def elsewhere_inside(model):
    node = onnx.helper.make_node("Constant", [], ["secret"], value=onnx.TensorProto(dims=[1], data_type=1))
    node.attribute[0].t.external_data.add(key="location", value="../secret")
    inner = onnx.helper.make_graph([node], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["pixels"], ["x"], then_branch=inner, else_branch=inner))


def set_metadata(name, value):
    def change(model):
        next(entry for entry in model.metadata_props if entry.key == name).value = value

    return change


def set_spec(**values):
    def change(model):
        entry = next(entry for entry in model.metadata_props if entry.key == "spec")
        spec = json.loads(entry.value)
        for name, value in values.items():
            (spec if name in spec else spec["input"])[name] = value
        entry.value = json.dumps(spec)

    return change


def unknown_operator(model):
    model.graph.node[0].op_type = "Sing"


def no_numbers(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == 1:
            tensor.raw_data = b"\x00\x00\xc0\x7f" * (len(tensor.raw_data) // 4)


REFUSED = [
    (no_numbers, "its answers are no numbers"),
    (elsewhere, "stores weights in another file"),
    (elsewhere_inside, "stores weights in another file"),
    (lambda model: model.ClearField("metadata_props"), "was not exported by melvision"),
    (lambda model: model.graph.node[0].__setattr__("domain", "evil.example\n"), "operators of 'evil.example"),
    (lambda model: model.graph.ClearField("node"), "is no ONNX file or damaged"),
    (lambda model: model.graph.ClearField("initializer"), "ONNX Runtime cannot use it"),
    (unknown_operator, "ONNX Runtime cannot use it"),
    (set_metadata("format", "99"), "was exported by another version"),
    (set_metadata("spec", "[" * 100_000), "its spec is damaged"),
    (set_metadata("spec", "[]"), "its spec is damaged"),
    (set_metadata("models", "many"), "its spec is damaged"),
    (set_spec(classes=[1, 2, 3]), "its spec is damaged (classes)"),
    (set_spec(classes="abc"), "its spec is damaged (classes)"),
    (set_spec(typical_seconds=0), "its spec is damaged (typical_seconds)"),
    (set_spec(window=float("nan")), "its spec is damaged (window)"),
    (set_spec(drawn=["a"]), "its spec is damaged"),
    (set_spec(frames=[{"size": 1}]), "its spec is damaged"),
    (set_spec(render={"sr": 1}), "its spec is damaged (sr=1"),
    (set_spec(size=64), "its graph does not fit its spec"),
    (set_spec(size=1 << 40), "its spec is damaged (size)"),
    (set_spec(classes=["one"]), "expected a row of genres"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_other_files_are_refused_in_one_line(changed, trained, capsys, change, message):
    path = changed(change)
    picture = next((trained / "images").rglob("*.png"))
    assert predict.main([str(path), str(picture)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
def test_truncated_files(file, trained, tmp_path, capsys, kept):
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:kept])
    picture = next((trained / "images").rglob("*.png"))
    assert predict.main([str(tmp_path / "cut.onnx"), str(picture)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'cut.onnx'}: ") and error.count("\n") == 1


def test_mistakes_of_the_command_line(file, trained, tmp_path, capsys):
    picture = str(next((trained / "images").rglob("*.png")))
    (tmp_path / "folder.onnx").mkdir()
    for call, message in [
        (lambda: main([str(trained / "run"), "-o", str(tmp_path / "model.pt")]), "ends in .onnx"),
        (lambda: main([str(trained / "run"), "-o", str(tmp_path / "folder.onnx")]), "ends in .onnx"),
        (lambda: main([str(file), "-o", str(tmp_path / "again.onnx")]), "is exported already"),
        (lambda: main([str(tmp_path), "-o", str(tmp_path / "x.onnx")]), "there is no such checkpoint"),
        (lambda: predict.main([str(tmp_path / "none.onnx"), picture]), "there is no such file"),
        (lambda: predict.main([str(tmp_path / "folder.onnx"), picture]), "there is no such checkpoint"),
    ]:
        assert call() == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_run_may_be_named_like_a_file(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run.onnx")
    picture = str(next((trained / "images" / "jazz").iterdir()))
    assert predict.main([str(tmp_path / "run.onnx"), picture]) == 0
    assert "jazz " in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra(file, trained, tmp_path, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    picture = next((trained / "images").rglob("*.png"))
    for call in (
        lambda: predict.main([str(file), str(picture)]),
        lambda: main([str(trained / "run"), "-o", str(tmp_path / "model.onnx")]),
    ):
        assert call() == 2
        error = capsys.readouterr().err
        assert f'needs {missing}; install it: pip install -e ".[export]"' in error and error.count("\n") == 1


def test_a_file_with_other_probabilities_is_not_written(images, tmp_path, monkeypatch):
    """Weights that change after the graph was made: what PyTorch says then is not what the file says."""
    model, spec = learnt("cnn2", False, read_pictures(images, size=32, window=1.0))
    opened = exported._open

    def change_then_open(*given):
        with torch.no_grad():
            for weights in model.parameters():
                weights += 0.05
        return opened(*given)

    monkeypatch.setattr(exported, "_open", change_then_open)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_text("what was there")
    with pytest.raises(MelvisionError, match="not written, because ONNX Runtime's probabilities differ from PyTorch's"):
        exported.save(tmp_path / "out" / "model.onnx", [model], spec)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["what was there"]
