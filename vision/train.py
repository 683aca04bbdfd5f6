"""Command line: ``python -m vision.train``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.command_line import show_progress
from vision.training.config import FIRST, TrainConfig, add_flags, config_of, flag_groups, parse_seeds

# Before torch is imported, or it has no effect: operations that MPS lacks run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vision.train",
        usage="%(prog)s [flags]",
        description="Train a network on DATA/{train,dev,test}/<genre>/*.png. Without a data folder, the "
        "pictures in images_original are split first; pictures added there since the last run join.",
        epilog="example: python -m vision.train --epochs 30 --out runs/first",
    )
    groups = flag_groups(parser)
    first = groups[FIRST].add_argument
    first("--data", metavar="DIR", help="data folder (default: data, made from --images if it does not exist)")
    first("--images", metavar="DIR", help="pictures to split first (default: images_original)")
    first("--out", metavar="DIR", help="run folder (default: runs/<recipe>-001 and so on)")
    first("--resume", metavar="DIR", help="continue the interrupted run in DIR with its settings")
    first("--seeds", metavar="0,1,2", help="train once per seed; report the spread and the mean of the models")
    pieces = "when splitting, take song_0 and song_1 for pieces of one track"
    groups["data"].add_argument("--pieces", action="store_true", help=pieces)
    add_flags(groups)
    final = parser.add_argument_group("the model to use", "once a run is good enough").add_argument
    final("--final", action="store_true", help="train on train, dev and test together; with --like")
    final("--like", metavar="RUN", help="with --final: the run whose settings are taken, and which says how good it is")
    return parser


def _last_line(result: Any, config: TrainConfig, seeds: Sequence[int]) -> str:
    """The accuracy that the run is judged by, and what is to be said of it."""
    from vision.reports.tables import accuracy_text, few_text

    split = "test" if "test" in result.scores else "dev"
    if seeds:
        together = accuracy_text(result.together)
        mean = f"{result.scores[result.judged]['mean']:.3f}, mean of {len(seeds)} seeds"
        return f"{split} accuracy: {mean}; together {together}{few_text(result.together)}"
    optimistic = " (optimistic: dev chose the epoch, there is no test)" if split == "dev" else ""
    scores = result.scores[split]
    return f"{split} accuracy: {accuracy_text(scores)}{few_text(scores)}{optimistic}"


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what cannot be before torch is imported, which takes seconds."""
    if args.resume and args != parser.parse_args(["--resume", args.resume]):
        raise MelvisionError(f"--resume {args.resume} goes on with that run's own settings: give no other flags")
    if args.final or args.like:
        if not (args.final and args.like):
            raise MelvisionError("--final and --like RUN go together; give both or neither")
        given = ["--final", "--like", args.like]
        given += [
            part for name in ("out", "data") if getattr(args, name) for part in (f"--{name}", getattr(args, name))
        ]
        if args != parser.parse_args(given):
            raise MelvisionError(f"--final takes the settings of {args.like}: give no other flags but --out and --data")
    config_of(args).check()


def _train_final(like: str, out: str | None, data: str | None, *, resume: bool = False) -> int:
    """Train the model that one really uses."""
    from vision.models import run_files
    from vision.reports.runs import refresh_index
    from vision.training.distributed import Distributed
    from vision.training.final import fit_final

    with Distributed() as distributed:
        result = fit_final(like, out, data=data, resume=resume, progress=show_progress)
    if distributed.is_first:
        print((result.run / run_files.TEXT_REPORT).read_text("utf-8", "surrogateescape").rstrip())
        print(f"report: {(result.run / run_files.PAGE).resolve()}")
        if line := refresh_index(result.run):
            show_progress(line)
    return 1 if result.problems else 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a picture could not be used."""
    parser = get_parser()
    args = parser.parse_args(argv)
    _check(args, parser)
    seeds = parse_seeds(args.seeds) if args.seeds is not None else []
    from vision.inference.device import keep_freed_memory
    from vision.models import run_files
    from vision.reports.runs import refresh_index
    from vision.training.data_folder import prepare_data
    from vision.training.distributed import Distributed
    from vision.training.repeats import fit_seeds, read_seeds
    from vision.training.run import fit, require_new
    from vision.training.state import read_config, read_like

    keep_freed_memory()
    if args.final:
        return _train_final(args.like, args.out, args.data)
    if args.resume and (like := "" if (Path(args.resume) / run_files.SEEDS).exists() else read_like(args.resume)):
        return _train_final(like, args.resume, read_config(args.resume).data, resume=True)
    config, out, problems = config_of(args), args.resume or args.out, []
    with Distributed() as distributed:
        if args.resume:
            several = (Path(out) / run_files.SEEDS).exists()
            config, seeds = read_seeds(out) if several else (read_config(out), [])
        else:
            if out:
                require_new(out)
            split = {"pieces": args.pieces, "progress": show_progress}
            data = distributed.once(lambda: prepare_data(args.data, args.images, **split))
            if distributed.is_first:
                print_notes_and_failures(data.notes, data.problems)
            config.data, problems = str(data.path), data.problems
        how: dict[str, Any] = {"resume": bool(args.resume), "progress": show_progress}
        result = fit_seeds(config, seeds, out, **how) if seeds else fit(config, out, **how)
    if not result.scores:  # not the first of several processes
        return 0
    print((result.run / run_files.TEXT_REPORT).read_text("utf-8", "surrogateescape").rstrip())
    print(f"report: {(result.run / run_files.PAGE).resolve()}")
    if line := refresh_index(result.run):
        show_progress(line)
    print(_last_line(result, config, seeds) + (f" ({config.note})" if config.note else ""))
    return 1 if problems or result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
