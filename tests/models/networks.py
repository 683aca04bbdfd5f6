"""Small networks of every kind, and pictures of noise for them."""

import torch

from vision.data.pixel_store import PixelStore
from vision.models.classifier import create_model
from vision.models.cnn import MODELS

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
