"""Command line: ``python -m vision.tune``: settings that suit these pictures, found by trying."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from render.cli import command, print_notes_and_failures
from vision.command_line import show_progress
from vision.training.config import FIRST, TrainConfig, add_flags, config_of, flag_groups

# Before torch is imported, or it has no effect: operations that MPS lacks run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vision.tune",
        usage="%(prog)s [flags]",
        description="Search for better settings of a recipe with Optuna. Each trial is scored on grouped folds of the "
        "train and dev tracks, never on test. It takes trials times folds trainings, less those that end early: begin "
        "with --recipe quick. A setting that a flag gives a value to stays as it is. Run it again to go on, or at once "
        "in several processes with one --storage.",
        epilog="example: python -m vision.tune --data data --recipe quick --trials 30, "
        "and then python -m vision.train --data data --config runs/tune-quick/best.json",
    )
    groups = flag_groups(parser)
    first = groups[FIRST].add_argument
    first("--data", metavar="DIR", help="data folder (default: data, made from --images if it does not exist)")
    first("--images", metavar="DIR", help="pictures to split first (default: images_original)")
    first("--trials", type=int, default=30, metavar="N", help="in all, over all processes (default: %(default)s)")
    first("--folds", type=int, default=5, metavar="N", help="folds of train and dev (default: %(default)s)")
    first("--search", metavar="lr,mixup", default="", help="settings to search (default: all that docs/settings.md "
          "gives a range for)")  # fmt: skip
    group_files = "lines of track,group besides the groups of the split; may be given several times"
    first("--groups", metavar="FILE", action="append", default=[], help=group_files)
    first("--storage", metavar="URL", help="database for several processes or machines, such as sqlite:///tune.db "
          "(default: tune.db in --out)")  # fmt: skip
    first("--out", metavar="DIR", help="folder of the results (default: runs/tune-<recipe>)")
    add_flags(groups)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a picture could not be used."""
    args = get_parser().parse_args(argv)
    config = config_of(args)
    config.check()  # before torch is imported, which takes seconds
    fixed = [name for name in TrainConfig.__dataclass_fields__ if getattr(args, name, None) is not None]
    from vision.inference.device import keep_freed_memory
    from vision.models import run_files
    from vision.reports.runs import refresh_index
    from vision.reports.tuning import verdict
    from vision.training.data_folder import prepare_data
    from vision.training.tuning import check_search, tune

    keep_freed_memory()
    search = [name.strip() for name in args.search.split(",") if name.strip()]
    check_search(config, trials=args.trials, folds=args.folds, fixed=fixed, search=search)  # before data are split
    data = prepare_data(args.data, args.images, progress=show_progress)
    print_notes_and_failures(data.notes, data.problems)
    how = {name: getattr(args, name) for name in ("trials", "folds", "groups", "storage", "out")}
    config = replace(config, data=str(data.path))
    result = tune(config, fixed=fixed, search=search, **how, progress=show_progress)
    print(verdict(result.report.summary()))
    print(f"report: {(result.run / run_files.PAGE).resolve()}")
    if line := refresh_index(result.run):
        show_progress(line)
    data_folder, best = shlex.quote(str(data.path)), shlex.quote(str(result.run / run_files.BEST))
    print(f"to train with what was found: python -m vision.train --data {data_folder} --config {best}")
    return 1 if data.problems or result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
