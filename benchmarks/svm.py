"""What the network has to beat: the usual support vector machine on the feature table, with the same split.

    python -m render.features genres/ -o features_30_sec.csv
    python benchmarks/svm.py features_30_sec.csv --data data
    python benchmarks/svm.py features_30_sec.csv --train-list train.txt --dev-list valid.txt [--test-list test.txt]

Standardised features, RBF kernel, C chosen by cross-validation inside train, where tracks (and what the
split ties together) stay together too. Where the table has segments, their decision values are averaged,
so that every figure is per track. Dev chooses nothing here.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from render.cli import InputError, command  # noqa: E402
from vision.groups import look_up, read_list, track_key  # noqa: E402
from vision.split import read_rows  # noqa: E402

C = [0.1, 0.3, 1, 3, 10, 30, 100]
SPLITS = ("train", "dev", "test")


def read_table(path):
    """The track (genre, key) of each row, and its features, (n_rows, n_features)."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name not in ("filename", "length", "label")]
        features = np.array([[float(row[name]) for name in names] for row in rows])
        return [(row["label"].casefold(), track_key(row["filename"])) for row in rows], features
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no feature table ({error!r}); make one with python -m render.features") from None


def _escaped(name):
    return name.encode(errors="backslashreplace").decode()  # as the table holds what is no text


def read_sides(args, tracks):
    """The side of each track that has one, and the group that it must stay with."""
    if args.data:
        rows = [row for row in read_rows(args.data) if row.split and not row.left_out]
        if not rows:
            raise InputError(f"{args.data}: no split.csv with tracks in it; make it with python -m vision.split")
        keys = [(_escaped(row.genre).casefold(), track_key(_escaped(row.file))) for row in rows]
        return dict(zip(keys, [(row.split, row.group) for row in rows], strict=True))
    if not args.train_list or not (args.dev_list or args.test_list):
        raise InputError("expected --data, or --train-list and at least one of --dev-list and --test-list")
    lists = {split: getattr(args, f"{split}_list") for split in SPLITS}
    lists = {split: read_list(path) for split, path in lists.items() if path}
    # A track on two lists counts as what must not be trained on.
    return {track: (split, track) for split, keys in lists.items() for track in tracks if look_up(keys, *track)}


def predict(model, features, tracks):
    """The predicted genre of each track, by the mean decision values of its rows."""
    by_track = defaultdict(list)
    for track, values in zip(tracks, model.decision_function(features), strict=True):
        by_track[track].append(values)
    genres = model.classes_
    if len(genres) == 2:  # scikit-learn gives one value for two
        return {track: genres[int(np.mean(values) > 0)] for track, values in by_track.items()}
    return {track: genres[np.mean(values, axis=0).argmax()] for track, values in by_track.items()}


@command
def main(argv=None):
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="CSV file of python -m render.features")
    parser.add_argument("--data", help="folder of python -m vision.split")
    for split in SPLITS:
        parser.add_argument(f"--{split}-list", metavar="FILE", help=f"tracks that a published split has in {split}")
    args = parser.parse_args(argv)
    from scipy.stats import binomtest
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    tracks, features = read_table(args.features)
    sides = read_sides(args, set(tracks))
    rows = {split: [n for n, track in enumerate(tracks) if sides.get(track, [""])[0] == split] for split in SPLITS}
    for split in SPLITS:
        here, wanted = {tracks[n] for n in rows[split]}, {track for track in sides if sides[track][0] == split}
        genres = len({genre for genre, _ in here})
        print(f"{split}: {len(here)} tracks of {genres} genres, {len(rows[split])} rows", end="")
        print(f"; {len(wanted - here)} more of the split are not in the table" if wanted - here else "")
    y = [tracks[n][0] for n in rows["train"]]
    groups = [str(sides[tracks[n]][1]) for n in rows["train"]]
    folds = min(5, len(set(groups)))
    if len(set(y)) < 2 or folds < 2:
        raise InputError(f"{args.features}: {len(set(groups))} groups and {len(set(y))} genres of train: too few")
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": C}, cv=GroupKFold(folds))
    search.fit(features[rows["train"]], y, groups=groups)
    chosen = f"C {search.best_params_['svc__C']:g}"
    print(f"{chosen}, by {folds} folds inside train ({search.best_score_:.1%} of rows: optimistic, C was chosen by it)")
    for split in [split for split in SPLITS[1:] if rows[split]]:
        guesses = predict(search.best_estimator_, features[rows[split]], [tracks[n] for n in rows[split]])
        correct = sum(guess == track[0] for track, guess in guesses.items())
        low, high = binomtest(correct, len(guesses)).proportion_ci(method="wilson")
        told = f"{correct} of {len(guesses)} tracks, 95 % interval {low:.1%} to {high:.1%}"
        print(f"{split}: accuracy {correct / len(guesses):.1%} ({told})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
