"""Command line: ``python -m vision`` lists the commands."""

import argparse
import sys

from render.cli import command

#: In the order in which people need them.
COMMANDS = {
    "check": "look a folder of pictures over before training: balance, margins, corrupt and equal ones",
    "split": "divide pictures into train, dev and test, keeping together what belongs together",
    "train": "train a network on them, into a run folder with a report",
    "crossval": "train and score on grouped, stratified folds",
    "evaluate": "score a trained network on other pictures",
    "explain": "show what it looked at, and which bands decide each genre",
    "predict": "say which genre pictures and audio are: files, folders, a watched folder, a stream",
    "listen": "the same from the microphone, once a second",
    "serve": "the same on a web page",
    "export": "write a trained network as one ONNX file",
}


def get_parser():
    lines = [f"  python -m vision.{name:<10} {told}" for name, told in COMMANDS.items()]
    return argparse.ArgumentParser(
        prog="python -m vision",
        description="Commands (pictures are drawn by: python -m render genres/):\n\n" + "\n".join(lines),
        epilog="example: python -m vision.train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@command
def main(argv=None):
    """List the commands; returns 0."""
    parser = get_parser()
    parser.parse_args(argv)
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
