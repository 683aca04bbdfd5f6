"""Command line: ``python -m vision.report runs/x --thesis``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command
from render.errors import MelvisionError
from vision.command_line import add_plots_flag


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.report",
        description="Write a finished run for a thesis or a paper: LaTeX tables of its scores and genres, a paragraph "
        "of methods with what it cites, and its plots in another format. All of it comes from the files of the run, "
        "whose page, report.html, is there already.",
        epilog="example: python -m vision.report runs/standard-001 --thesis --plots-as pdf",
    )
    which = "run folder of vision.train, also of several seeds, or folder of vision.crossval"
    parser.add_argument("run", metavar="RUN", help=which)
    parser.add_argument("--thesis", action="store_true", help="LaTeX tables and a paragraph of methods")
    add_plots_flag(parser, "draw the plots again in this format")
    parser.add_argument("-o", "--out", metavar="DIR", help="(default: RUN/thesis)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0."""
    args = get_parser().parse_args(argv)
    if not (args.thesis or args.plots_as):
        raise MelvisionError(f"{args.run}: nothing to do; give --thesis, --plots-as pdf, or both")
    from vision.training.thesis import write_plots, write_thesis

    out = Path(args.out or Path(args.run) / "thesis")
    paths = write_thesis(args.run, out) if args.thesis else []
    paths += write_plots(args.run, out, args.plots_as) if args.plots_as else []
    print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
