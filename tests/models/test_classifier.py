"""Every model: learns, gives probabilities, and needs nothing that Apple's devices lack."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.networks import NAMES, build, levels, pixels, size_of
from vision.data.dataset import Pictures
from vision.data.pixel_store import PixelStore
from vision.inference.windows import predict_proba, predict_windows
from vision.models.classifier import create_model
from vision.models.cnn import MODELS
from vision.models.fitted import fit_experts
from vision.training.augment import make_augmentations
from vision.training.config import TrainConfig
from vision.training.loop import Optimisation, train_one_epoch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("texture", [0, 8])
@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_and_probabilities(name, texture):
    model = build(name, texture=texture)
    assert model.training
    fit_experts(model, levels(name, 8), torch.arange(8) % 3)
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
            assert torch.allclose(found.exp(), 0.5 * one + 0.5 * other, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v3_small"])
def test_dropout_before_the_last_layer(name, dropout):
    found = [module.p for module in build(name, dropout=dropout).modules() if isinstance(module, torch.nn.Dropout)]
    assert found[-1] == dropout


@pytest.mark.slow
@pytest.mark.parametrize("texture", [0, 8])
@pytest.mark.parametrize("name", list(MODELS))
def test_overfits_eight_pictures(name, texture):
    torch.manual_seed(0)
    x = PixelStore.of(torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8))
    y = torch.arange(8) % 4
    model = create_model(4, name=name, channels=1, size=32, mean=[0.5], std=[0.3], dropout=0.0, texture=texture)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    fit_experts(model, x, y)
    pictures = Pictures(x, y, [str(number) for number in range(8)], ["a", "b", "c", "d"])
    criterion = torch.nn.CrossEntropyLoss(reduction="sum")
    optimisation = Optimisation(criterion, torch.optim.Adam(model.parameters(), lr=2e-3))
    for _ in range(40):
        loss, accuracy = train_one_epoch(model, pictures, [torch.randperm(8)], optimisation)
    assert loss < 0.02
    assert accuracy == 1.0
    assert (predict_proba(model, x).argmax(dim=1) == y).all()


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
            if any(size % wanted for size, wanted in sizes):
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


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_apples_devices_lack(name):
    """A step of training with every augmentation, and scoring; but for drawing and the mean over windows."""
    model = build(name, texture=12)
    wide = torch.cat([torch.stack(list(levels(name, 6)))] * 2, dim=3)
    x = PixelStore.of(wide[..., : size_of(name) * 3 // 2])
    pictures = Pictures(x, torch.arange(6) % 3, [str(number) for number in range(6)], ["a", "b", "c"])
    criterion = torch.nn.CrossEntropyLoss(torch.ones(3), reduction="sum", label_smoothing=0.1)
    optimisation = Optimisation(criterion, torch.optim.AdamW(model.parameters()))
    augmentations = make_augmentations(TrainConfig(stretch=0.1, shift=0.1, random_eq=4.0, mixup=0.3, masks=1))
    with NoMPS():
        fit_experts(model, x, pictures.y)
        loss, _ = train_one_epoch(model, pictures, torch.arange(6).split(3), optimisation, augmentations)
        windows = [(number, start) for number in range(6) for start in x.starts(number)]
        found = torch.cat([part for _, part in predict_windows(model, x, windows)])
    assert loss > 0
    assert torch.allclose(found.sum(dim=1), torch.ones(len(found)), atol=1e-5)


def test_the_answer_is_the_weighted_mean_of_the_experts():
    torch.manual_seed(0)
    experts = {"cnn2": 0.25, "texture": 0.75}
    arguments = {"name": "cnn2", "channels": 1, "size": 32, "mean": [0.5], "std": [0.2], "dropout": 0.1}
    model = create_model(3, **arguments, texture=8, experts=experts).eval()
    fit_experts(model, levels("cnn2", 8), torch.arange(8) % 3)
    x = torch.rand(5, 1, 32, 32)
    with torch.inference_mode():
        alone = {name: model.alone(name)(x).softmax(dim=1) for name in experts}
        mean = sum(weight * alone[name] for name, weight in experts.items())
        assert torch.allclose(model(x).softmax(dim=1), mean, atol=1e-5)
        logits, of_experts, distance = model.answer(x)
        assert torch.equal(logits, model(x)) and list(of_experts) == list(experts)
        assert all(torch.allclose(of_experts[name], alone[name], atol=1e-6) for name in experts)
        assert torch.equal(distance, model.space.distance(model.space.statistics(x)))
    only = create_model(3, **arguments, texture=8, experts={"texture": 1.0}).eval()
    only.texture.load_state_dict(model.texture.state_dict())
    assert only.net is None and torch.allclose(only(x).softmax(dim=1), alone["texture"], atol=1e-6)
