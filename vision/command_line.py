"""Flags that several commands of vision share. Imports neither torch nor numpy, so ``--help`` is quick."""

import argparse

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
