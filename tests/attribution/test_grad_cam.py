"""Grad-CAM is the formula of the paper, for every network with feature maps."""

import numpy as np
import pytest
import torch

from tests.conftest import spectrogram_of, write_picture
from vision.attribution.grad_cam import feature_layer, grad_cam
from vision.data.pixel_store import to_pixels
from vision.models.classifier import create_model
from vision.models.cnn import MODELS


def read(predictor, path, S_db):
    return predictor.read(write_picture(path, S_db)).x


@pytest.mark.parametrize("texture", [0, 5])
@pytest.mark.parametrize(
    "name", [*MODELS, "resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "alexnet"]
)
def test_every_model_has_feature_maps(name, texture):
    torch.manual_seed(0)
    size = 64
    built = create_model(3, name=name, channels=1, size=size, mean=[0.4], std=[0.2], dropout=0.5, texture=texture)
    built.eval()
    layer = feature_layer(built, size)
    shapes = []
    hook = layer.register_forward_hook(lambda _, __, output: shapes.append(output.shape[2:]))
    x = torch.randint(0, 256, (1, size, 150), dtype=torch.uint8)
    heat = grad_cam([built], x, 1)
    hook.remove()
    assert min(shapes[0]) > 1
    assert heat.shape == (size, 150) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() in (0, 1)
    # No hooks and no gradients of the weights are left.
    assert not any(part._forward_hooks or part._backward_hooks for part in built.modules())
    assert all(weight.grad is None for weight in built.parameters())


def test_grad_cam_is_the_formula_of_the_paper():
    torch.manual_seed(3)
    built = create_model(4, name="vgg", channels=1, size=64, mean=[0.4], std=[0.2], dropout=0.5, texture=5).eval()
    x = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8)
    maps = built.net.features(built.normalize(to_pixels(x[None], torch.device("cpu")))).detach().requires_grad_()
    pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
    built.net.classifier(pooled)[0, 2].backward()
    expected = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu().detach()
    expected = torch.nn.functional.interpolate(expected, size=(64, 64), mode="bilinear")[0, 0].numpy()
    assert expected.max() > 0
    assert np.allclose(grad_cam([built], x, 2), expected / expected.max(), atol=1e-5)


@pytest.mark.slow
def test_a_transformer_has_no_feature_maps():
    built = create_model(3, name="vit_b_32", channels=1, size=224, mean=[0.4], std=[0.2], dropout=0.0, texture=0)
    with pytest.raises(ValueError, match="no convolutional network"):
        feature_layer(built.eval(), 224)


def test_several_models_have_equal_weight(model, tmp_path):
    x = read(model, tmp_path / "x.png", spectrogram_of("blues", 5))
    once = grad_cam(model.models, x, 0)
    assert np.allclose(grad_cam(model.models * 2, x, 0), once, atol=1e-5)
