"""Spectrogram pictures to genres: the public API.

``import vision`` is quick: each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same for type checkers and editors
    from render.errors import MelvisionError as MelvisionError
    from vision.data.borders import RemoveBorder as RemoveBorder
    from vision.data.dataset import SpectrogramFolder as SpectrogramFolder
    from vision.data.preprocess import InputSpec as InputSpec
    from vision.data.preprocess import Preprocessor as Preprocessor
    from vision.inference.predictor import Prediction as Prediction
    from vision.inference.predictor import Predictor as Predictor
    from vision.models.checkpoint import load_model as load_model
    from vision.models.classifier import create_model as create_model
    from vision.quality.inspect import inspect_folder as inspect_folder
    from vision.reports.comparison import compare_runs as compare_runs
    from vision.reports.scoring import score_run as score_run
    from vision.splits.folder import split_folder as split_folder
    from vision.training.config import TrainConfig as TrainConfig
    from vision.training.final import fit_final as fit_final
    from vision.training.repeats import cross_validate as cross_validate
    from vision.training.run import fit as fit

#: The module of each public name. No name is also a module's, so that ``from vision import X`` and ``import vision.X``
#: cannot be confused, in whichever order they are executed.
_PUBLIC = {
    "Predictor": "vision.inference.predictor",
    "Prediction": "vision.inference.predictor",
    "TrainConfig": "vision.training.config",
    "fit": "vision.training.run",
    "fit_final": "vision.training.final",
    "score_run": "vision.reports.scoring",
    "compare_runs": "vision.reports.comparison",
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
