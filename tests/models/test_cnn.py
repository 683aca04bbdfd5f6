"""Every network: builds, learns, is stored and loaded, and asks nothing of a device that Apple's lack."""

import copy
from urllib.error import URLError

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision import models as theirs

from tests.conftest import write_tree
from vision import train
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import InputSpec
from vision.inference.windows import predict_windows
from vision.models import checkpoint
from vision.models.classifier import create_model
from vision.models.cnn import MODELS, conv
from vision.models.spec import ModelSpec
from vision.models.svm import fit_texture
from vision.training.loop import train_one_epoch

THEIRS = ["resnet18", "squeezenet1_1", "mobilenet_v3_small"]
NAMES = [*MODELS, *THEIRS]
ARGUMENTS = {"channels": 1, "mean": [0.4], "std": [0.2], "dropout": 0.1, "texture": 0}


def size_of(name):
    return 64 if name in THEIRS else 32


def levels(name, n=4, channels=1):
    """Pictures of noise at a model's size."""
    torch.manual_seed(0)
    return PixelStore.of(torch.randint(0, 256, (n, channels, size_of(name), size_of(name)), dtype=torch.uint8))


def pixels(name, n=4, channels=1):
    return torch.stack(list(levels(name, n, channels))).float() / 255


def build(name, **more):
    torch.manual_seed(0)
    return create_model(3, name=name, **{"size": size_of(name)} | ARGUMENTS | more)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("texture", [0, 8])
@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_and_probabilities(name, texture):
    model = build(name, texture=texture)
    assert model.training
    fit_texture(model, levels(name, 8), torch.arange(8) % 3)
    x = pixels(name)
    logits = model(x)
    assert logits.shape == (4, 3)
    assert logits.dtype == torch.float32
    torch.nn.functional.cross_entropy(logits, torch.arange(4) % 3).backward()
    for parameter, weights in model.named_parameters():
        assert weights.grad is not None and weights.grad.isfinite().all(), parameter
        assert weights.grad.any() or weights.ndim == 1, f"{parameter} learns nothing"
    model.eval()
    with torch.inference_mode():
        found = model(x)
        assert found.shape == (4, 3)
        assert found.isfinite().all()
        assert torch.allclose(found[2:3], model(x[2:3]), atol=1e-4), "whatever else is in the batch"
        if texture:
            one, other = model.net(model.normalize(x)).softmax(dim=1), model.texture(x).softmax(dim=1)
            assert torch.allclose(found.exp().sum(dim=1), torch.ones(4), atol=1e-5)
            assert torch.allclose(found.exp(), 0.3 * one + 0.7 * other, atol=1e-5)


@pytest.mark.parametrize(("name", "channels"), [*((name, 1) for name in NAMES), ("crnn", 3), ("resnet18", 3)])
def test_a_stored_model_answers_as_before(tmp_path, name, channels):
    model = {**ARGUMENTS, "name": name, "mean": [0.4] * channels, "std": [0.2] * channels, "texture": 4}
    model = {key: value for key, value in model.items() if key not in ("channels", "size")}
    spec = InputSpec(size_of(name), channels, window=5.0, typical_seconds=12.0)
    recipe = ModelSpec(["a", "b", "c"], model, spec)
    before = checkpoint.build(recipe).to(memory_format=torch.channels_last)
    fit_texture(before, levels(name, 4, channels), torch.tensor([0, 1, 2, 0]))
    x = pixels(name, 4, channels)
    before.train()(x)  # the means of batch norm belong to it
    checkpoint.save(tmp_path / "model.pt", before, recipe)
    after, told = checkpoint.load(tmp_path)
    assert told == recipe
    assert not after.training
    with torch.inference_mode():
        assert torch.equal(after(x), before.eval()(x))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v3_small"])
def test_dropout_before_the_last_layer(name, dropout):
    found = [module.p for module in build(name, dropout=dropout).modules() if isinstance(module, torch.nn.Dropout)]
    assert found[-1] == dropout


@pytest.fixture
def downloads(monkeypatch):
    """torchvision's weights come from this dict of name to weights; without one there is no network."""
    there = {}

    def get(self, **_):
        if self.name not in there:
            raise URLError("no network")
        return there[self.name]

    monkeypatch.setattr(theirs.WeightsEnum, "get_state_dict", get)
    return there


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_pretrained_weights_are_taken_but_for_the_last_layer(downloads, name):
    torch.manual_seed(1)
    downloads["IMAGENET1K_V1"] = theirs.get_model(name).state_dict()
    net = build(name, weights="DEFAULT").net.net
    fresh = build(name).net.net
    kept = [key for key, value in net.state_dict().items() if torch.equal(value, downloads["IMAGENET1K_V1"].get(key))]
    last = {key for key in net.state_dict() if key.startswith(("fc.", "classifier."))}
    assert set(net.state_dict()) - set(kept) == last
    assert all(torch.equal(net.state_dict()[key], fresh.state_dict()[key]) for key in last if key.endswith("bias"))


REFUSED = [
    ({"name": "resnet9000"}, "no such model; expected one of vgg, vgg_dense, cnn2, cnn3, crnn, or torchvision's"),
    ({"name": "fcn_resnet50"}, "no such model"),
    ({"name": "vgg", "weights": "DEFAULT"}, "--weights DEFAULT is for torchvision's models; vgg has none"),
    ({"name": "resnet18", "weights": "BEST"}, "torchvision has no weights BEST for it; try DEFAULT"),
    ({"name": "resnet18", "weights": "DEFAULT"}, "no network"),
    ({"name": "vit_b_16", "size": 32}, "does not take 32x32 pictures"),
]


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_built(downloads, arguments, told):
    with pytest.raises(ValueError) as error:
        build(**arguments)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert arguments["name"] != "vit_b_16" or "--size 224" in str(error.value)


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_built_through_the_command_line(downloads, tmp_path, capsys, arguments, told):
    write_tree(tmp_path / "data" / "train", 2)
    write_tree(tmp_path / "data" / "dev", 1, start=2)
    flags = ["--model", arguments["name"], "--weights", arguments.get("weights", ""), "--size", "32", "--threads", "1"]
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert told in error


class NoMPS(TorchDispatchMode):
    """Refuse what Apple's devices lack: float64, and adaptive pooling to a size that does not divide."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs, found)) if isinstance(x, torch.Tensor)]
        wide = {x.dtype for x in tensors} & {torch.float64, torch.complex128, torch.complex64}
        if wide:
            raise TypeError(f"{func}: {wide}")
        if "adaptive_" in func.__name__ and "backward" not in func.__name__:
            sizes = zip(args[0].shape[-len(args[1]) :], args[1], strict=True)
            if any(there % asked for there, asked in sizes):
                raise TypeError(f"{func}: {tuple(args[0].shape)} to {args[1]}")
        return found


def test_the_refusals_refuse():
    with NoMPS(), pytest.raises(TypeError, match="float64"):
        torch.ones(3).double()
    with NoMPS(), pytest.raises(TypeError, match="float64"):
        torch.ones(3) * torch.tensor([1.0], dtype=torch.float64)
    for pool in (torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveMaxPool2d):
        with NoMPS(), pytest.raises(TypeError, match="to "):
            pool(7)(torch.ones(1, 1, 32, 32))
        with NoMPS():
            pool(16)(torch.ones(1, 1, 32, 32))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_apples_devices_lack(name):
    """A step of training with every augmentation, and scoring; but for drawing and the mean over windows."""
    model = build(name, texture=12)
    wide = torch.cat([torch.stack(list(levels(name, 6)))] * 2, dim=3)
    x = PixelStore.of(wide[..., : size_of(name) * 3 // 2])
    y = torch.arange(6) % 3
    optimizer = torch.optim.AdamW(model.parameters())
    criterion = torch.nn.CrossEntropyLoss(torch.ones(3), reduction="sum", label_smoothing=0.1)
    with NoMPS():
        fit_texture(model, x, y)
        loss, _ = train_one_epoch(
            model, x, y, order=torch.arange(6), batch_size=3, criterion=criterion, optimizer=optimizer, n_classes=3,
            stretch=0.1, shift=0.1, colour=4.0, mixup=0.3, masks=1,
        )  # fmt: skip
        windows = [(number, start) for number in range(6) for start in x.starts(number)]
        found = torch.cat([part for _, part in predict_windows(model, x, windows)])
    assert loss > 0
    assert torch.allclose(found.sum(dim=1), torch.ones(len(found)), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_before_relu_is_relu_before_pooling(dtype):
    """To the last bit, gradients as well: the order is for speed."""
    torch.manual_seed(0)
    quick = torch.nn.Sequential(*conv(2, 8, pool=2), *conv(8, 8, pool=(4, 2)))
    usual = []
    for layer in copy.deepcopy(quick):
        usual.insert(len(usual) - isinstance(layer, torch.nn.ReLU), layer)
    usual = torch.nn.Sequential(*usual)
    assert [type(layer).__name__ for layer in usual[:4]] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    x = torch.randn(3, 2, 32, 32)
    results = []
    for network in (quick, usual):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = network(x)
        out.float().square().sum().backward()
        results.append([out, *(parameter.grad for parameter in network.parameters())])
    assert results[0][0].std() > 0.1
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
