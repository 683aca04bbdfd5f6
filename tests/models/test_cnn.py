"""Networks of our own."""

import copy

import pytest
import torch

from vision.models.cnn import conv


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
