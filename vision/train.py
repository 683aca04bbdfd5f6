"""Command line: ``python -m vision.train``."""

import argparse
import os
import sys
from pathlib import Path

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.training.config import TrainConfig, add_flags, config_of

# Before torch is imported, or it has no effect: operations that MPS lacks run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.train",
        description="Train a network on DATA/{train,dev,test}/<genre>/*.png. Without a data folder the "
        "pictures of images_original are split first; pictures dropped in since join.",
        epilog="example: python -m vision.train --epochs 30 --out runs/first",
    )
    add = parser.add_argument
    add("--data", help="data folder (default: data, made from --images where it is not there)")
    add("--images", help="pictures to split first (default: images_original)")
    add("--out", metavar="DIR", help="run folder (default: runs/<recipe>-001 and so on)")
    add("--resume", metavar="DIR", help="continue the interrupted run in DIR, with its settings")
    add_flags(parser)
    add("--seeds", metavar="0,1,2", help="train once for each, and report their spread and what they know together")
    add("--note", default="", help="a line to put on top of the report")
    return parser


def _prepare_data(args):
    """Find, make or bring up to date the data folder; returns it and the problems told."""
    from vision.data.dataset import SpectrogramFolder
    from vision.reports.text_table import split_table
    from vision.splits.folder import read_settings, split_folder
    from vision.splits.leaks import find_leaks, find_splits, train_splits

    data = Path(args.data or "data")
    made_here = (data / "split.csv").exists()
    if not args.data and not made_here and not find_splits(data):
        images = args.images or "images_original"
        print(f"no {data}/ yet: splitting {images} 80/10/10")
        result = split_folder(images, data)
        problems, notes = result.problems, result.notes
        print("\n".join(split_table(result.counts())))
    elif made_here:
        images = data / read_settings(data)["images"]
        if args.images and Path(args.images).resolve() != images.resolve():
            raise MelvisionError(f"{data}: was made of {images}, not of {args.images}; name another folder with --data")
        try:
            SpectrogramFolder(images)
        except MelvisionError:
            print_notes_and_failures([f"{images} holds no pictures any more; training on {data} as it is"])
            return str(data), []
        result = split_folder(images, data)
        problems, notes = result.problems, result.notes
        joined = [row for row in result.new if not row.left_out]
        if joined:
            sides = ", ".join(f"{sum(row.split == side for row in joined)} {side}" for side in ("train", "dev", "test"))
            print(f"{len(joined)} pictures dropped into {images} since the last split joined: {sides}")
    else:
        train_splits(data)
        if args.images:
            raise MelvisionError(f"{data}: was split by hand; --images {args.images} does not go with it")
        notes, (leaks, problems) = [], find_leaks(data)
        if leaks:
            notes.append(f"{data} was split by hand and LEAKS: {len(leaks)} pictures or tracks are on two sides, so")
            notes[-1] += " the figures will be too good. Split anew with python -m vision.split"
        notes += leaks[:20]
    print_notes_and_failures(notes, problems)
    return str(data), problems


def _claim_run_folder(recipe):
    """Make the next free folder: two runs started together must not get the same one."""
    number = 1
    while True:
        folder = Path("runs") / f"{recipe}-{number:03}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _resumed_config(folder):
    import json

    path = Path(folder) / "config.json"
    try:
        return TrainConfig(**json.loads(path.read_text("utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise MelvisionError(f"{path}: missing or damaged; {folder} is no run to resume") from None


def _seeds(text):
    """What --seeds asks for; None where it is not given."""
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",")]
        if len(set(seeds)) == len(seeds) >= 2 and all(0 <= seed < 1 << 31 for seed in seeds):
            return seeds
    except ValueError:
        pass
    raise MelvisionError(f"--seeds {text}: expected at least two different numbers from 0, such as 0,1,2")


def _begin(args, parser):
    """What to train, on which seeds, where to, and the problems met on the way."""
    if args.resume:
        if args != parser.parse_args(["--resume", args.resume]):
            raise MelvisionError(f"--resume {args.resume} goes on with that run's own settings: give no other flags")
        out = Path(args.resume)
        if (out / "seeds.json").exists():
            from vision.training.repeats import read_seeds

            seeds, settings = read_seeds(out)
            return TrainConfig(**settings), seeds, out, []
        return _resumed_config(out), None, out, []
    out = Path(args.out or "")
    if args.out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MelvisionError(f"{out}: exists already; use another --out, or --resume {out} if it was interrupted")
    config = config_of(args)
    config.data, problems = _prepare_data(args)
    return config, _seeds(args.seeds), out if args.out else _claim_run_folder(args.recipe), problems


def _train(config, seeds, out, resume, say, rank, world):
    """Train one run, or one a seed; returns the lines to end with, and the problems."""
    if seeds:
        from vision.training.repeats import fit_seeds

        summary, problems = fit_seeds(config, seeds, out, say=say, rank=rank, world=world)
        if rank:
            return [], []
        judged = summary["judged"]
        last = f"{judged.split('_')[0]} accuracy: {summary[judged]['mean']:.3f}, mean of {len(seeds)} seeds"
        remarks = []
    else:
        from vision.training.run import fit

        scores, problems = fit(config, out, resume=resume, say=say, rank=rank, world=world)
        if rank:
            return [], []
        judged = "test" if "test" in scores else "dev"
        last = f"{judged} accuracy: {scores[judged]['accuracy']:.3f}"
        remarks = ["optimistic: dev chose the epoch, there is no test"] if judged == "dev" else []
    remarks += [config.note] if config.note else []
    text = (out / "evaluation_report.txt").read_text("utf-8", "surrogateescape").rstrip()
    last += "".join(f" ({remark})" for remark in remarks)
    return [text, f"report: {(out / 'report.html').resolve()}", last], problems


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a picture could not be used."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if not args.resume:
        config_of(args).check()
        _seeds(args.seeds)
    from vision.training.distributed import gather, group

    with group() as (rank, world):
        begun = _begin(args, parser) if rank == 0 else None
        config, seeds, out, problems = gather(begun, world)[0]

        def say(line):
            if rank == 0:
                print(line, flush=True)

        try:
            lines, unusable = _train(config, seeds, out, bool(args.resume), say, rank, world)
        finally:
            if out.is_dir() and not any(out.iterdir()):
                out.rmdir()
    for line in lines:
        print(line)
    return 1 if rank == 0 and problems + unusable else 0


if __name__ == "__main__":
    sys.exit(main())
