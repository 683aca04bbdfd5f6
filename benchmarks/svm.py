"""What the network has to beat: support vector machines, on the feature table or on pictures.

    python -m render.features genres/ -o features_30_sec.csv
    python -m benchmarks.svm features_30_sec.csv --data data
    python -m benchmarks.svm features_30_sec.csv --train-list train.txt --dev-list valid.txt [--test-list test.txt]

The usual one, with the same split: standardised features, RBF kernel, C chosen by cross-validation inside
train, where tracks (and what the split ties together) stay together too. Where the table has segments,
their decision values are averaged, so that every figure is per track. Dev chooses nothing here.

    python -m benchmarks.svm --data data
    python -m benchmarks.svm --folds 10 images_original [--groups artists.csv] [--repeats 3]

On pictures as the network reads them, whole tracks, and no audio: RBF kernel with C and gamma fixed
(`PICTURE_C`, `PICTURE_GAMMA`), once on the texture statistics that the standard recipe has beside its
network, once on plain ones. The folds are those of `vision.crossval`.
"""

import argparse
import sys
from collections import Counter, defaultdict

import numpy as np

from render.cli import command
from render.errors import MelvisionError
from vision.data.csv_files import read_csv
from vision.splits.folder import read_rows
from vision.splits.groups import look_up, read_list
from vision.splits.keys import track_key

C = [0.1, 0.3, 1, 3, 10, 30, 100]
SPLITS = ("train", "dev", "test")
#: On pictures. Gamma is divided by the number of statistics.
PICTURE_C, PICTURE_GAMMA = 10, 0.3
#: Plain statistics: DCT coefficients, bands whose level is described, bands and bins of the modulation spectrum.
COEFFICIENTS, BANDS, MODULATED, RATES = 24, 32, 8, 12


def read_table(path):
    """The track (genre, key) of each row, and its features, (n_rows, n_features)."""
    try:
        rows = read_csv(path)
        names = [name for name in rows[0] if name not in ("filename", "length", "label")]
        features = np.array([[float(row[name]) for name in names] for row in rows])
        return [(row["label"].casefold(), track_key(row["filename"])) for row in rows], features
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise MelvisionError(
            f"{path}: is no feature table ({error!r}); make one with python -m render.features"
        ) from None


def _escaped(name):
    return name.encode(errors="backslashreplace").decode()  # as the table holds what is no text


def read_sides(args, tracks):
    """The side of each track that has one, and the group that it must stay with."""
    if args.data:
        rows = [row for row in read_rows(args.data) if row.split and not row.left_out]
        if not rows:
            raise MelvisionError(f"{args.data}: no split.csv with tracks in it; make it with python -m vision.split")
        keys = [(_escaped(row.genre).casefold(), track_key(_escaped(row.file))) for row in rows]
        return dict(zip(keys, [(row.split, row.group) for row in rows], strict=True))
    if not args.train_list or not (args.dev_list or args.test_list):
        raise MelvisionError("expected --data, or --train-list and at least one of --dev-list and --test-list")
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


def score_line(name, correct, n):
    """An accuracy and its interval as a line of text."""
    from vision.reports.metrics import wilson_interval

    low, high = wilson_interval(correct, n)
    return f"{name}: accuracy {correct / n:.1%} ({correct} of {n} tracks, 95 % interval {low:.1%} to {high:.1%})"


def score_table(args):
    """Train on a feature table, score and print."""
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    tracks, features = read_table(args.source)
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
        raise MelvisionError(f"{args.source}: {len(set(groups))} groups and {len(set(y))} genres of train: too few")
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": C}, cv=GroupKFold(folds))
    search.fit(features[rows["train"]], y, groups=groups)
    chosen = f"C {search.best_params_['svc__C']:g}"
    print(f"{chosen}, by {folds} folds inside train ({search.best_score_:.1%} of rows: optimistic, C was chosen by it)")
    for split in [split for split in SPLITS[1:] if rows[split]]:
        guesses = predict(search.best_estimator_, features[rows[split]], [tracks[n] for n in rows[split]])
        print(score_line(split, sum(guess == track[0] for track, guess in guesses.items()), len(guesses)))


def whole_tracks(store):
    """Every picture of a store at the commonest width, (n, height, width), as shares of 255, one after the other."""
    import torch
    from torch.nn.functional import interpolate

    width = Counter(store.widths.tolist()).most_common(1)[0][0]
    for number in range(len(store)):
        x = store[number].float().mean(dim=0) / 255
        if x.shape[1] != width:
            x = interpolate(x[None, None], (store.height, width), mode="bilinear", antialias=True)[0, 0]
        yield torch.as_tensor(x)


def texture(store):
    """Texture statistics of whole tracks, (n, n_statistics)."""
    import torch

    from vision.models.texture import Texture

    describe, statistics = None, []
    with torch.inference_mode():
        for x in whole_tracks(store):
            describe = describe or Texture(*x.shape)
            statistics.append(describe(x[None, None])[0].numpy())
    return np.stack(statistics)


def plain(store):
    """Statistics that anybody would think of, of whole tracks in decibels, (n, 540).

    Means, deviations and covariances over time of DCT coefficients along frequency; quantiles of
    bands; and how much of each wider band changes how fast: its spectrum over time, in bins of
    equal width on a logarithmic scale.
    """
    from scipy.fft import dct

    def describe(x):
        coefficients = dct(x, axis=0, norm="ortho")[:COEFFICIENTS]
        covariances = np.cov(coefficients)[np.triu_indices(COEFFICIENTS)]
        bands = x.reshape(BANDS, -1, x.shape[1]).mean(axis=1)
        quantiles = np.quantile(bands, [0.1, 0.5, 0.9], axis=1)
        wide = x.reshape(MODULATED, -1, x.shape[1]).mean(axis=1)
        power = np.abs(np.fft.rfft(wide - wide.mean(axis=1, keepdims=True), axis=1)[:, 1:]) ** 2
        edges = np.geomspace(1, power.shape[1] + 1, RATES + 1).round().astype(int) - 1
        ends = np.maximum(edges[1:], edges[:-1] + 1)
        spectrum = [np.log(power[:, a:b].mean(axis=1) + 1e-3) for a, b in zip(edges[:-1], ends, strict=True)]
        parts = [coefficients.mean(axis=1), coefficients.std(axis=1), covariances, quantiles, spectrum]
        return np.concatenate([np.ravel(part) for part in parts])

    return np.stack([describe(x.double().numpy() * 80) for x in whole_tracks(store)])


STATISTICS = {"texture": texture, "plain": plain}
#: Shares of the train tracks for a learning curve.
CURVE = (0.125, 0.25, 0.5, 0.75)


def right(features, y, train, held_out):
    """Train on some tracks; returns which of the others are right."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = make_pipeline(StandardScaler(), SVC(C=PICTURE_C, gamma=PICTURE_GAMMA / features.shape[1]))
    return model.fit(features[train], y[train]).predict(features[held_out]) == y[held_out]


def read_pictures(folder, classes=None):
    """Pictures as the standard recipe reads them."""
    from vision.data.dataset import list_pictures, read_folder
    from vision.data.preprocess import Preprocessor, learn_input_spec

    spec = learn_input_spec(list_pictures(folder), size=128, window=10.0, channels=1)
    pictures = read_folder(folder, Preprocessor(spec), classes=classes)
    print(f"{folder}: {len(pictures.y)} tracks of {len(set(pictures.y.tolist()))} genres", flush=True)
    return pictures


def score_split(args):
    """Train on the train pictures, score the others and print."""
    from vision.reports.metrics import mean_and_interval
    from vision.reports.tables import summary_line
    from vision.splits.leaks import train_splits

    folders, sets, classes = train_splits(args.data), {}, None
    for split, folder in folders.items():
        sets[split] = read_pictures(folder, classes)
        classes = sets["train"].classes
    y = np.concatenate([pictures.y.numpy() for pictures in sets.values()])
    side = np.repeat(list(sets), [len(pictures.y) for pictures in sets.values()])
    for name, describe in STATISTICS.items():
        features = np.concatenate([describe(pictures.x) for pictures in sets.values()])
        for split in list(sets)[1:]:
            correct = right(features, y, side == "train", side == split)
            print(score_line(f"{name} ({features.shape[1]}), {split}", int(correct.sum()), len(correct)), flush=True)
        for share in CURVE if args.curve else ():
            scores = [
                right(features, y, some_of(side == "train", y, share, seed), side == "dev").mean() for seed in range(5)
            ]
            n = int(some_of(side == "train", y, share, 0).sum())
            print(f"  {n} train tracks: dev {summary_line('5 draws', mean_and_interval(scores))}", flush=True)


def some_of(train, y, share, seed):
    """A mask of a random share of each genre's train tracks."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(y), bool)
    for label in np.unique(y):
        mine = np.flatnonzero(train & (y == label))
        chosen[rng.permutation(mine)[: round(share * len(mine))]] = True
    return chosen


def score_folds(args):
    """Score on the folds of ``vision.crossval`` and print."""
    from vision.reports.metrics import mean_and_interval
    from vision.reports.tables import summary_line
    from vision.splits.folds import make_folds
    from vision.splits.groups import read_groups

    groups = read_groups(args.groups) if args.groups else {}
    pictures = read_pictures(args.source)
    y = pictures.y.numpy()
    features = {name: describe(pictures.x) for name, describe in STATISTICS.items()}
    accuracies = {name: [] for name in STATISTICS}
    for repeat in range(args.repeats):
        pairs = make_folds(pictures, groups=groups, folds=args.folds, repeat=repeat, seed=args.fold_seed)
        for name, scores in accuracies.items():
            scores += [right(features[name], y, *pair).mean() for pair in pairs]
    for name, scores in accuracies.items():
        print(summary_line(f"{name} ({features[name].shape[1]}), {args.folds} folds", mean_and_interval(scores)))


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="CSV file of python -m render.features; with --folds, pictures")
    parser.add_argument("--data", help="folder of python -m vision.split")
    for split in SPLITS:
        parser.add_argument(f"--{split}-list", metavar="FILE", help=f"tracks that a published split has in {split}")
    parser.add_argument("--curve", action="store_true", help="with --data: also with fewer train tracks")
    parser.add_argument("--folds", type=int, help="score on so many folds of the pictures")
    parser.add_argument("--repeats", type=int, default=1, help="with --folds: cut anew so often (default: 1)")
    parser.add_argument("--fold-seed", type=int, default=0, help="with --folds: of the cut (default: 0)")
    parser.add_argument("--groups", metavar="FILE", help="with --folds: artists, as for vision.crossval")
    return parser


@command
def main(argv=None):
    """Train, score and print."""
    args = get_parser().parse_args(argv)
    if args.source is None and (args.folds or not args.data):
        raise MelvisionError("expected a feature table, or --data, or --folds and a folder of pictures")
    if args.folds:
        score_folds(args)
    elif args.source:
        score_table(args)
    else:
        score_split(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
