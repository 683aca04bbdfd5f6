"""Command line: ``python -m vision`` lists the commands, and ``melvision COMMAND`` runs one."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from render.cli import command

#: In the order in which people need them.
COMMANDS = {
    "check": "inspect a folder of pictures before training: balance, margins, unusable and repeated pictures",
    "split": "divide pictures into train, dev and test, with each track and group in one split only",
    "train": "train a network on them, into a run folder with a report",
    "crossval": "train and score on grouped, stratified folds",
    "tune": "search for better settings, on folds of train and dev",
    "evaluate": "score a trained network on other pictures",
    "compare": "compare runs: scores, settings, and whether a difference is more than chance",
    "report": "write a finished run for a thesis: LaTeX tables, methods, plots as SVG or PDF",
    "explain": "show what predictions are based on, and which bands matter for each genre",
    "predict": "predict the genre of pictures and audio: files, folders, a watched folder, a stream",
    "embed": "write what a trained network makes of tracks, as numbers: a row a track",
    "map": "draw a map of tracks as a web page: alike tracks lie close together",
    "organise": "put a music library in order by predicted genres: folders, playlists, tags",
    "listen": "predict the genre of what the microphone records, every second",
    "serve": "serve a web page that predicts what is dropped onto it",
    "export": "write a trained network as one ONNX file",
}


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    lines = [f"  python -m vision.{name:<10} {summary}" for name, summary in COMMANDS.items()]
    return argparse.ArgumentParser(
        prog="python -m vision",
        description="Commands (python -m render genres/ draws the pictures). After pip install, melvision render and "
        "melvision train\nare short for python -m render and python -m vision.train, and so on:\n\n" + "\n".join(lines),
        epilog="example: python -m vision.train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@command
def _list_commands(argv: Sequence[str] | None = None) -> int:
    parser = get_parser()
    parser.parse_args(argv)
    parser.print_help()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first, or list them all; returns its exit code."""
    name, *others = list(sys.argv[1:] if argv is None else argv) or [""]
    modules = {"render": "render.__main__"} | {command: f"vision.{command}" for command in COMMANDS}
    if name in modules:
        return importlib.import_module(modules[name]).main(others)
    return _list_commands([name, *others] if name else [])


if __name__ == "__main__":
    sys.exit(main())
