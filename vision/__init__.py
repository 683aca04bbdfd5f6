"""Spectrogram pictures to genres.

The public API, loaded when it is first used: ``from vision import Predictor`` costs nothing until then.
"""

import importlib

#: Where each public name lives. None is also the name of a module here, so that ``from vision import X`` and
#: ``import vision.X`` cannot be confused, in whichever order they come.
_PUBLIC = {
    "Predictor": "vision.inference.predictor",
    "Prediction": "vision.inference.predictor",
    "TrainConfig": "vision.training.config",
    "fit": "vision.training.run",
    "score_run": "vision.reports.scoring",
    "cross_validate": "vision.training.repeats",
    "split_folder": "vision.splits.folder",
    "inspect_folder": "vision.quality.inspect",
    "RemoveBorder": "vision.data.borders",
    "Preprocessor": "vision.data.preprocess",
    "InputSpec": "vision.data.preprocess",
    "SpectrogramFolder": "vision.data.dataset",
    "create_model": "vision.models.classifier",
    "load_model": "vision.models.checkpoint",
    "MelvisionError": "render.errors",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vision' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
