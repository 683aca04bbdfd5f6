"""What an interrupted run needs to go on exactly where it stopped."""

import json
import os

from render.errors import MelvisionError
from vision.models import checkpoint


def write_state(out, model, optimizer, history, about):
    """Write ``last.pt``, keeping the one before it: a disk may damage what was written whole."""
    if (out / "last.pt").exists():
        os.replace(out / "last.pt", out / "before.pt")
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    checkpoint.write(out / "last.pt", {"format": checkpoint.FORMAT, "about": json.dumps(about), **state})


def threads_before(out):
    """The thread count that an interrupted run computed with: its last bits depend on it."""
    try:
        return int(json.loads((out / "config.json").read_text("utf-8"))["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_state(out, about, say):
    """What the last finished epoch left; None where the run was cut off in its first."""
    if (out / "metrics.json").exists():
        raise MelvisionError(f"{out}: is complete already; train into another folder with --out")
    there = [out / name for name in ("last.pt", "before.pt") if (out / name).exists()]
    if not there:
        return None
    try:
        state = checkpoint.read(there[0])
    except MelvisionError as error:
        if len(there) == 1:
            raise
        say(f"failed: {error}; going on from the epoch before it")
        state = checkpoint.read(there[1])
        there[0].unlink()  # or the next epoch's state would put it in the place of the good one
    before = json.loads(state["about"])
    for name in ("pictures", "config", "device", "precision", "threads", "processes"):
        if before[name] != about[name]:
            told = "the pictures were others" if name == "pictures" else f"{name} was {before[name]}"
            raise MelvisionError(f"{out}: {told} when this run began; train anew into another folder with --out")
    return state
