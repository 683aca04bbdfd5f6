"""Command line: ``python -m vision.crossval IMAGES``: every track is scored by a model that was not trained on it."""

import argparse
import os
import sys
from collections.abc import Sequence

from render.cli import command
from vision.command_line import show_progress
from vision.training.config import FIRST, add_flags, config_of, flag_groups

# Before torch is imported, or it has no effect: operations that MPS lacks run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vision.crossval",
        usage="%(prog)s IMAGES [flags]",
        description="Cross-validate a recipe on a folder of genre folders. Folds are stratified and keep together "
        "pictures of one track, equal pictures and, with --groups, an artist. Each model is trained for its whole "
        "schedule; no epoch is chosen on the fold that is scored. Run it again to continue after an interruption.",
        epilog="example: python -m vision.crossval images_original --folds 10 --groups artists.csv",
    )
    parser.add_argument("images", help="folder of genre folders")
    groups = flag_groups(parser)
    first = groups[FIRST].add_argument
    first("--folds", type=int, default=10, help="(default: %(default)s)")
    first("--repeats", type=int, default=1, help="cross-validations, each with other folds (default: %(default)s)")
    first("--fold-seed", type=int, default=0, help="seed of the assignment to folds (default: %(default)s)")
    group_files = "lines of track,group, or Sturm's index: see vision.split; may be given several times"
    first("--groups", metavar="FILE", action="append", default=[], help=group_files)
    first("--pieces", action="store_true", help="song_0 and song_1 are pieces of one track")
    first("--out", metavar="DIR", help="folder of the results (default: runs/crossval-<recipe>)")
    add_flags(groups)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a picture could not be used."""
    args = get_parser().parse_args(argv)
    config = config_of(args)
    config.check()  # before torch is imported, which takes seconds
    from vision.inference.device import keep_freed_memory
    from vision.models import run_files
    from vision.reports.runs import refresh_index
    from vision.training.repeats import cross_validate

    keep_freed_memory()
    how = {name: getattr(args, name) for name in ("folds", "repeats", "fold_seed", "groups", "pieces", "out")}
    result = cross_validate(args.images, config, **how, progress=show_progress)
    print((result.run / run_files.TEXT_REPORT).read_text("utf-8", "surrogateescape"), end="")
    print(f"report: {(result.run / run_files.PAGE).resolve()}")
    if line := refresh_index(result.run):
        show_progress(line)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
