"""What an interrupted run needs to go on exactly where it stopped."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from render.errors import MelvisionError
from vision.models import checkpoint, run_files
from vision.models.run_files import current_names
from vision.training.config import TrainConfig


def write_state(
    out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, Any]], about: dict[str, Any]
) -> None:
    """Write ``last.pt``, keeping the one before it: a disk may damage what was written whole.

    Parameters
    ----------
    out : Path
        The run folder.
    model, optimizer : nn.Module, torch.optim.Optimizer
        As they are after an epoch. The schedule and the random draws follow from the epoch.
    history : list of dict
        Rows of ``history.csv``.
    about : dict
        Settings and hardware, as ``config.json`` holds them.
    """
    if (out / run_files.STATE).exists():
        os.replace(out / run_files.STATE, out / run_files.OLDER_STATE)
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    checkpoint.write(out / run_files.STATE, {"format": checkpoint.FORMAT, "about": json.dumps(about), **state})


def read_config(out: str | Path) -> TrainConfig:
    """Read the settings of a run folder.

    Raises
    ------
    MelvisionError
        When ``config.json`` is missing or damaged.
    """
    try:
        return TrainConfig.from_dict(run_files.read_config_file(out)["config"])
    except MelvisionError:
        raise
    except ValueError as error:
        raise MelvisionError(f"{Path(out) / run_files.CONFIG}: {error}; {run_files.TODO}") from None


def read_like(out: str | Path) -> str:
    """The run whose settings a final model takes, from its run folder; empty for other runs."""
    like = run_files.read_config_file(out).get("like", "")
    return os.path.normpath(Path(out) / like) if like else ""


def threads_before(out: Path) -> int | None:
    """The thread count that an interrupted run computed with: its last bits depend on it."""
    if not (out / run_files.CONFIG).exists():  # interrupted before it was written
        return None
    return run_files.read_config_file(out).get("threads")


def read_state(out: Path, about: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """Read what the last finished epoch left.

    Parameters
    ----------
    out : Path
        The run folder.
    about : dict
        Settings, pictures and hardware of now: they must be those that the run began with.
    say : callable
        Takes a line of text for the user.

    Returns
    -------
    state : dict or None
        ``weights``, ``optimizer`` and ``history``; None where the run was interrupted in its first epoch.

    Raises
    ------
    MelvisionError
        When the run is complete, its files are damaged, or it began under other conditions.
    """
    if (out / run_files.METRICS).exists():
        raise MelvisionError(f"{out}: is complete already; train into another folder")
    paths = [out / name for name in (run_files.STATE, run_files.OLDER_STATE) if (out / name).exists()]
    if not paths:
        return None
    try:
        state = checkpoint.read(paths[0])
    except MelvisionError as error:
        if len(paths) == 1:
            raise
        say(f"failed: {error}; going on from the epoch before it")
        state = checkpoint.read(paths[1])
        paths[0].unlink()  # or the next epoch's state would put it in the place of the good one
    before = json.loads(state["about"])
    before["config"] = current_names(before["config"])
    for name in ("pictures", "config", "device", "precision", "threads", "processes"):
        if before[name] != about[name]:
            difference = "the pictures were others" if name == "pictures" else f"{name} was {before[name]}"
            raise MelvisionError(f"{out}: {difference} when this run began; train anew into another folder")
    return state
