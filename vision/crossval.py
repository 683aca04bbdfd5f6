"""Command line: ``python -m vision.crossval IMAGES``: every track scored by a model that never saw it."""

import argparse
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.training.config import add_flags, config_of

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.crossval",
        description="Cross-validate a recipe on a folder of genre folders: stratified folds that keep together "
        "pictures of one track, equal pictures and, with --groups, an artist. Each model learns for its whole "
        "schedule; no epoch is chosen on the fold that is scored. Run again to go on where it was interrupted.",
        epilog="example: python -m vision.crossval images_original --folds 10 --groups artists.csv",
    )
    parser.add_argument("images", help="folder of genre folders, or of train, dev, test folders to be pooled")
    parser.add_argument("--folds", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="whole cross-validations, cut anew (default: 1)")
    parser.add_argument("--fold-seed", type=int, default=0, help="of the cut into folds (default: 0)")
    told = "lines of track,group, or Sturm's index: see vision.split; may be given several times"
    parser.add_argument("--groups", metavar="FILE", action="append", help=told)
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/crossval-<recipe>)")
    add_flags(parser)
    parser.add_argument("--note", default="", help="a line to put on top of the report")
    return parser


def _read(config, images):
    """All pictures, and how they were read."""
    from vision.data.borders import fit_border
    from vision.data.dataset import list_pictures, read_folder
    from vision.splits.leaks import find_splits
    from vision.training.run import pick_hardware, reading

    if find_splits(images):
        raise MelvisionError(f"{images}: holds train, dev, test; name the folder of genre folders that it was made of")
    hardware = pick_hardware(config)
    paths = list_pictures(images)
    remove_border = fit_border(paths)
    how = reading(config, paths)
    pictures = read_folder(images, **how, remove_border=remove_border)
    return pictures, {"remove_border": remove_border, "window": how["window"], "hardware": hardware}


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a picture could not be used."""
    args = get_parser().parse_args(argv)
    config = config_of(args)
    config.data = args.images
    config.check()
    if args.folds < 2 or args.repeats < 1:
        raise MelvisionError(f"--folds {args.folds} --repeats {args.repeats}: expected at least 2 folds and 1 repeat")
    if config.patience:
        raise MelvisionError("--patience: there is no dev set in a cross-validation; the schedule is fixed beforehand")
    import numpy as np

    from vision.reports import metrics
    from vision.splits.folds import make_folds
    from vision.splits.groups import merge_groups, read_groups
    from vision.training import repeats
    from vision.training.report import mean_line, spread, write_pooled
    from vision.training.run import check_genres, versions

    groups = merge_groups([read_groups(path) for path in args.groups or ()])
    out = Path(args.out or f"runs/crossval-{config.recipe}")
    if (out / "summary.json").exists():
        raise MelvisionError(f"{out}: is complete already; use another --out")
    pictures, how = _read(config, args.images)
    print_notes_and_failures(pictures.notes, pictures.problems)
    check_genres(pictures, args.images)
    done, accuracies, total = [], [], np.zeros((len(pictures.y), len(pictures.classes)))
    for repeat in range(args.repeats):
        pairs = make_folds(pictures, groups=groups, folds=args.folds, repeat=repeat, seed=args.fold_seed)
        for number, numbers in enumerate(pairs, 1):
            folder = out / f"fold-{repeat + 1}-{number:02}"
            done.append(folder)
            probabilities = repeats.run_fold(config, pictures, numbers, how, folder, lambda line: None)
            total[numbers[1]] += probabilities
            accuracies.append(metrics.score(pictures.y[numbers[1]].numpy(), probabilities)["accuracy"])
            n = len(numbers[1])
            print(f"fold {number} of {args.folds}, repeat {repeat + 1}: {accuracies[-1]:.3f} of {n}", flush=True)
    scored = np.flatnonzero(total.sum(axis=1))
    found = spread(accuracies)
    what = f"{args.folds} folds" + (f", {args.repeats} times" if args.repeats > 1 else "")
    named = " and ".join(Path(path).name for path in args.groups or ())
    what += f", groups of {named}" if named else ", duplicates kept together"
    lines = [mean_line(f"Accuracy over {what}", found)]
    lines.append("Each model learned for its whole schedule: no epoch was chosen on what it is scored on.")
    about = {"config": asdict(config), "folds": args.folds, "repeats": args.repeats, "fold_seed": args.fold_seed}
    about |= {"groups": args.groups, "versions": versions()}
    headline = f"{found['mean']:.1%} of tracks right over {what} (standard deviation {found['std']:.1%})"
    text = write_pooled(
        out, title=f"held-out tracks of {what}", headline=headline, lines=lines, y=pictures.y[scored].numpy(),
        probabilities=total[scored] / args.repeats, paths=[pictures.paths[number] for number in scored],
        classes=pictures.classes, summary={"accuracy": found}, about=about, note=config.note,
    )  # fmt: skip
    for folder in done:
        shutil.rmtree(folder)
    print(text, end="")
    print(f"report: {(out / 'report.html').resolve()}")
    return 1 if pictures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
