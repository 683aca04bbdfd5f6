"""Command line: ``python -m vision.compare runs/a runs/b``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.compare",
        description="Compare finished runs: their scores, which settings differ, and a paired test of whether the "
        "difference is more than chance. Up to four runs are tested in all pairs, more against the first one.",
        epilog="example: python -m vision.compare runs/standard-001 runs/quick-001 --html compare.html",
    )
    which = "run folder of vision.train, also of several seeds, or folder of vision.crossval; at least two"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=which)
    parser.add_argument("--html", metavar="FILE", help="also write a page, with the curves of all runs in one picture")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0."""
    args = get_parser().parse_args(argv)
    from vision.models.run_files import BEST, INDEX
    from vision.reports.comparison import compare_runs, text_lines, write_page

    # The page of all runs and searches for settings lie among them: runs/* names them, too.
    runs = [run for run in args.runs if Path(run).name != INDEX and not (Path(run) / BEST).exists()]
    comparison = compare_runs(runs)
    if args.json:
        print(json.dumps(comparison.to_dict(), indent=1))
    else:
        print("\n".join(text_lines(comparison)))
    if args.html:
        write_page(args.html, comparison)
        print(f"page: {Path(args.html).resolve()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
