"""A run's history for TensorBoard: scalars of each epoch, a batch as the network gets it, and the confusions."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from render import png
from render.errors import MelvisionError
from vision.training.config import TrainConfig

#: The folder inside a run folder: ``tensorboard --logdir runs`` finds those of all runs.
FOLDER = "tensorboard"

#: Pictures of the batch that is shown.
SHOWN = 16


def require_tensorboard(config: TrainConfig) -> None:
    """Raise MelvisionError where a config asks for TensorBoard and it is not installed."""
    if config.log == "tensorboard":
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise MelvisionError(
                '--log tensorboard needs an extra: pip install -e ".[tensorboard]", or leave --log out: history.csv '
                "holds the same numbers"
            ) from None


class Board:
    """Writes event files into a run folder. There is no account, and nothing leaves the machine.

    Parameters
    ----------
    out : Path
        The run folder.
    epochs_done : int
        Of a resumed run: what was logged of later epochs is dropped.
    """

    def __init__(self, out: Path, epochs_done: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / FOLDER), purge_step=epochs_done + 1 if epochs_done else None)

    def epoch(self, row: dict[str, Any]) -> None:
        """Log a row of ``history.csv``: ``loss/dev``, ``accuracy/network_train`` and so on."""
        for name, value in row.items():
            part, _, quantity = name.rpartition("_")
            if name != "epoch":
                tag = f"{quantity}/{part}" if quantity in ("loss", "accuracy") else name
                self._writer.add_scalar(tag, value, row["epoch"])
        self._writer.flush()

    def inputs(self, x: torch.Tensor) -> None:
        """Log pictures of a batch, augmented, as the network gets them: (B, C, H, W), in [0, 1]."""
        values = (x.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        if values.shape[1] == 1:  # levels are drawn in magma, as in the reports
            values = png.palette("magma")[values[:, 0]].transpose(0, 3, 1, 2)
        self._writer.add_images("inputs", values, 0)

    def picture(self, name: str, path: Path, epoch: int) -> None:
        """Log a PNG file."""
        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), epoch, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
