"""What several commands of vision share. Imports neither torch nor numpy, so ``--help`` is quick."""

import argparse
import sys

DEVICE_HELP = "cuda, mps or cpu (default: the first that is available)"


def add_device_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup, help: str = DEVICE_HELP) -> None:
    """Add ``--device``, as `vision.inference.device.pick_device` takes it.

    Parameters
    ----------
    parser : argparse.ArgumentParser or argument group
        Where to add it.
    help : str
        Its help text.
    """
    parser.add_argument("--device", default="auto", help=help)


#: Formats of plots, by the ending of their files.
PLOT_FORMATS = ("png", "svg", "pdf")


def add_plots_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup, help: str) -> None:
    """Add ``--plots-as``: one of `PLOT_FORMATS`, or None."""
    parser.add_argument("--plots-as", choices=PLOT_FORMATS, help=help)


def add_expert_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--of``, as `vision.inference.embeddings.pick_expert` takes it."""
    parser.add_argument("--of", metavar="EXPERT", help="whose embeddings: network, musicnn or texture (default: "
                        "musicnn where the model has it, else its network, else texture)")  # fmt: skip


def show_progress(line: str) -> None:
    """Print a line that the library gave to ``progress=``; notes and failures go to standard error."""
    print(line, file=sys.stderr if line.startswith(("note: ", "failed: ")) else sys.stdout, flush=True)
