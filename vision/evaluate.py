"""Command line: ``python -m vision.evaluate runs/x``."""

import argparse
import json
import os
import sys
from pathlib import Path

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.evaluate",
        description="Score a trained model on the test pictures of its data folder, or on any genre folder.",
        epilog="example: python -m vision.evaluate runs/classic-001 --data other_pictures",
    )
    parser.add_argument("run", help="run folder of vision.train, its model.pt, or an exported .onnx file")
    parser.add_argument("--data", help="folder with train, dev, test, or with genre folders (default: the run's own)")
    parser.add_argument("--learn-margins", action="store_true", help="learn the margins of picture sizes new to the "
                        "model from this folder (default: cut each by its own edges)")  # fmt: skip
    parser.add_argument("--split", choices=["train", "dev", "test"], help="(default: test, or dev if there is no test)")
    add_device_flag(parser)
    parser.add_argument("--csv", metavar="FILE", help="also write the predictions of every picture")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    return parser


def _find_pictures(args, about):
    """The folder to score, and what to call it."""
    from vision.splits.leaks import find_splits

    data = args.data or about.get("config", {}).get("data")
    if not data:
        raise MelvisionError(f"{args.run}: does not say what it was trained on; name a folder with --data")
    data = Path(data)
    folders = find_splits(data)
    if not folders:
        if args.split:
            raise MelvisionError(f"{data}: has no {args.split} folder")
        return data, str(data)
    split = args.split or ("test" if "test" in folders else "dev")
    if split not in folders:
        raise MelvisionError(f"{data}: has no {split} folder; it has {', '.join(folders)}")
    return folders[split], split


def _trained_on(run, pictures):
    """How many of the pictures are of tracks that the model was trained on; None where no split.csv tells."""
    from vision.models.run_files import trained_tracks
    from vision.splits.keys import track_key

    try:
        train = trained_tracks(run)
    except MelvisionError:
        return None
    names = zip(pictures.y.tolist(), pictures.paths, strict=True)
    return sum((pictures.classes[label], track_key(path)) in train for label, path in names)


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a picture could not be used."""
    args = get_parser().parse_args(argv)
    from vision.data.dataset import list_pictures, read_folder
    from vision.inference.predictor import Predictor
    from vision.reports import metrics
    from vision.reports.tables import text_report, write_split_predictions

    predictor = Predictor(args.run, args.device)
    folder, name = _find_pictures(args, predictor.about)
    if args.learn_margins:
        predictor.learn_margins(list_pictures(folder))
    pictures = read_folder(folder, predictor.preprocessor, classes=predictor.classes)
    print_notes_and_failures(pictures.notes, pictures.problems)
    trained = _trained_on(args.run, pictures)
    if trained is None:
        print_notes_and_failures([f"no split.csv beside {args.run}; these tracks may be in its training set"])
    elif trained:
        note = f"{trained} of {len(pictures.y)} tracks are in the training set; this score is optimistic"
        print_notes_and_failures([note])
    probabilities = predictor.probabilities(pictures.x)
    y = pictures.y.numpy()
    scores = metrics.score(y, probabilities)
    if args.csv:
        write_split_predictions(Path(args.csv), {name: (pictures.paths, y, probabilities)}, predictor.classes)
    if args.json:
        print(json.dumps({"run": args.run, "data": str(folder), "trained_on": trained, **scores}, indent=1))
    else:
        if name == "dev" and not args.data:
            print("Optimistic: the epoch was chosen on these tracks.")
        table = metrics.per_genre(y, probabilities, predictor.classes)
        print(text_report({name: scores}, table, predictor.classes, name), end="")
    return 1 if pictures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
