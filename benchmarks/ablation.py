"""Named settings, compared on three yardsticks: dev of a published split, folds by artist, random folds.

    python -m vision.split gtzan_images -o data --train-list train_filtered.txt --dev-list valid_filtered.txt
    python -m benchmarks.ablation gtzan_images --data data --groups GTZANindex.txt \\
        --row "standard" --row "no soft labels: --soft-labels 0" --row "10 s: --window 10"

Every row is trained for its whole schedule on the train part and scored at the last epoch, for each seed. The table
gives accuracy and log loss (which moves first) by track, and paired differences to the first row, with 95 % intervals
over tracks: the same tracks are easy for both. A change is taken for its mean over the yardsticks, not for the best.

Everything that is done is kept in --out, so that the same command goes on after an interruption, and more rows, seeds
or folds cost only themselves. Screen first: --seeds 0 --only 2 --yardsticks valid,artist, with fewer --epochs in the
rows; then run the finalists in full. A row of the standard recipe is 7 to 10 minutes a training on two cores with bf16,
so all of it (3 seeds on valid, 5 folds by artist, 5 random) is about 13 trainings: two hours.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from render import atomic
from render.cli import command
from render.errors import MelvisionError
from vision.reports import metrics
from vision.reports.text_table import text_table
from vision.training.config import add_flags, config_of, flag_groups, parse_seeds

YARDSTICKS = ("valid", "artist", "random")


def read_rows(texts):
    """The settings of each row by its name, from texts such as ``"10 s: --window 10"``."""
    rows = {}
    for text in texts:
        name, _, flags = text.partition(":")
        parser = argparse.ArgumentParser(prog=f"--row {name!r}")
        add_flags(flag_groups(parser))
        rows[name.strip()] = config_of(parser.parse_args(shlex.split(flags)))
        rows[name.strip()].check()
    return rows


def pairs_of(yardstick, pictures, args):
    """The pictures to train on and those to score, of each part of a yardstick."""
    from vision.splits.folder import read_rows as read_split
    from vision.splits.folds import make_folds
    from vision.splits.groups import read_groups

    if yardstick == "valid":
        split = {row.file: row.split for row in read_split(args.data) if not row.left_out}
        sides = [split.get(Path(path).relative_to(args.images).as_posix()) for path in pictures.paths]
        pair = tuple([number for number, side in enumerate(sides) if side == wanted] for wanted in ("train", "dev"))
        if not all(pair):
            raise MelvisionError(f"{args.data}: holds no train or no dev picture of {args.images}; split that folder")
        return [pair]
    groups = read_groups(args.groups) if yardstick == "artist" else {}
    return make_folds(pictures, groups=groups, folds=args.folds, repeat=0, seed=0)[: args.only]


def run_row(name, config, yardstick, args, cache):
    """Labels, mean probabilities over seeds, and the probabilities of each seed, by track; and seconds a training."""
    from dataclasses import replace

    from vision.data.dataset import list_pictures, read_folder
    from vision.data.preprocess import Preprocessor
    from vision.splits.folds import picture_groups
    from vision.splits.groups import read_groups
    from vision.splits.tracks import number_tracks
    from vision.training.loop import RunContext
    from vision.training.repeats import run_fold
    from vision.training.run import pick_hardware, read_spec

    config = replace(config, data=str(args.images))
    inputs = (config.size, config.window, config.input, config.track_seconds)
    if inputs not in cache:
        spec = read_spec(config, list_pictures(args.images))
        pictures = read_folder(args.images, Preprocessor(spec))
        pictures.tracks = number_tracks(pictures)
        cache[inputs] = pictures, replace(spec, channels=pictures.x.channels)
    pictures, spec = cache[inputs]
    groups = read_groups(args.groups) if yardstick == "artist" else {}
    how = {"spec": spec, "hardware": pick_hardware(config), "groups": picture_groups(pictures, groups=groups)}
    seconds, by_seed, scored = [], [], []
    for seed in parse_seeds(args.seeds):
        parts, scored = [], []
        for number, pair in enumerate(pairs_of(yardstick, pictures, args)):
            folder = Path(args.out) / name.replace("/", "_") / yardstick / f"seed-{seed}-part-{number}"
            took, start = folder.with_suffix(".json"), time.perf_counter()
            parts.append(
                run_fold(replace(config, seed=seed), pictures, pair, how, RunContext(folder, how["hardware"][0]))
            )
            scored += pair[1]
            if not took.exists():
                atomic.write_json(took, time.perf_counter() - start)
            seconds.append(json.loads(took.read_text()))
            print(f"{name}, {yardstick}, seed {seed}, part {number}: {seconds[-1]:.0f} s", file=sys.stderr, flush=True)
        tracks = [pictures.tracks[number] for number in scored]
        y, p, _ = metrics.by_track(pictures.y[scored].numpy(), np.concatenate(parts), tracks)
        by_seed.append(p)
    return y, np.stack(by_seed), float(np.mean(seconds))


def measures(y, p):
    """Whether each track is right, and its log loss, as means over seeds: p is (seeds, n, n_classes)."""
    right = (p.argmax(axis=2) == y).mean(axis=0)
    return right, -np.log(np.maximum(p[:, np.arange(len(y)), y], 1e-12)).mean(axis=0)


def difference(values, reference):
    """A paired difference over tracks, with its 95 % interval."""
    found = values - reference
    low, high = metrics.t_interval(found)
    return f"{found.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="folder of genre folders")
    parser.add_argument("--row", action="append", required=True, metavar="NAME[: FLAGS]", help="flags of vision.train")
    parser.add_argument("--data", help="data folder split from the images by published lists, for the yardstick valid")
    parser.add_argument("--groups", metavar="FILE", help="artists, for the yardstick artist")
    parser.add_argument("--yardsticks", default=",".join(YARDSTICKS), help="(default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="of the yardsticks by folds (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="run the first N folds only, to screen rows")
    parser.add_argument("--seeds", default="0", help="(default: %(default)s)")
    parser.add_argument("--out", default="ablation", help="what is done is kept here (default: %(default)s)")
    return parser


@command
def main(argv=None):
    args = get_parser().parse_args(argv)
    rows, yardsticks = read_rows(args.row), args.yardsticks.split(",")
    for name, needed in (("valid", "data"), ("artist", "groups")):
        if name in yardsticks and not getattr(args, needed):
            raise MelvisionError(f"--yardsticks {args.yardsticks}: {name} needs --{needed}")
    if unknown := set(yardsticks) - set(YARDSTICKS):
        raise MelvisionError(f"--yardsticks {', '.join(sorted(unknown))}: expected some of {', '.join(YARDSTICKS)}")
    cache, table = {}, []
    found = {name: {y: run_row(name, config, y, args, cache) for y in yardsticks} for name, config in rows.items()}
    first = found[next(iter(rows))]
    for name, by_yardstick in found.items():
        for yardstick, (y, p, seconds) in by_yardstick.items():
            (right, loss), reference = measures(y, p), measures(*first[yardstick][:2])
            against = ["", ""] if by_yardstick is first else map(difference, (right, loss), reference)
            scores = [f"{values.mean():.3f}" for values in (right, loss)]
            table.append([name, yardstick, len(p), len(y), *scores, *against, f"{seconds:.0f}"])
    header = [
        "row",
        "yardstick",
        "seeds",
        "tracks",
        "accuracy",
        "log loss",
        "accuracy, difference",
        "log loss, difference",
    ]
    header.append("s a training")
    print("\n".join(text_table(header, table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
