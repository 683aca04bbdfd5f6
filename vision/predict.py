"""Command line: ``python -m vision.predict runs/x FILES_OR_FOLDERS...``."""

import argparse
import json
import os
import sys

from render.cli import command

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.predict",
        description="Say which genre spectrogram pictures or audio files are. Audio is drawn the way the "
        "model's train pictures were; a track much longer than those is predicted in pieces and averaged.",
        epilog="example: python -m vision.predict runs/classic-001 song.mp3 images_original/blues --csv genres.csv",
    )
    parser.add_argument("run", help="run folder of vision.train, or its model.pt")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture")
    parser.add_argument("--csv", metavar="FILE", help="also write all probabilities, a line a file")
    parser.add_argument("--json", action="store_true", help="print all probabilities as JSON instead of the table")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu (default: the first of these that is there)")
    return parser


def _write_csv(path, predictions, classes):
    import csv

    from render import atomic

    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "predicted", *classes, "error"])
        for prediction in predictions:
            p = prediction.probabilities
            told = ["", *[""] * len(classes)] if p is None else [classes[p.argmax()], *(f"{value:.4f}" for value in p)]
            writer.writerow([prediction.path, *told, prediction.error])


def _as_dict(prediction, classes):
    told = {"file": str(prediction.path), "notes": prediction.notes}
    if prediction.error:
        return told | {"error": prediction.error}
    p = prediction.probabilities
    ranked = sorted(zip(classes, p.tolist(), strict=True), key=lambda pair: -pair[1])
    return told | {"predicted": ranked[0][0], "probabilities": dict(ranked)}


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_args(argv)
    from render.cli import progress
    from vision.predictor import Predictor, find_files

    files = find_files(args.paths)
    predictor = Predictor(args.run, args.device)
    predictor.learn_borders(files)
    classes = predictor.classes
    bar = progress(predictor.predict(files), total=len(files), desc="predict", unit="file")
    predictions = list(bar)
    if args.json:
        print(json.dumps([_as_dict(prediction, classes) for prediction in predictions], indent=1))
    width = max(len(str(file)) for file in files)
    for prediction in predictions:
        for note in prediction.notes:
            print(f"note: {prediction.path}: {note}", file=sys.stderr)
        if prediction.error:
            print(f"failed: {prediction.path}: {prediction.error}", file=sys.stderr)
        elif not args.json:
            p = prediction.probabilities
            top = "  ".join(f"{classes[label]:<10} {p[label]:.3f}" for label in (-p).argsort(kind="stable")[:3])
            print(f"{prediction.path!s:{width}}  {top}")
    if args.csv:
        _write_csv(args.csv, predictions, classes)
    return 1 if any(prediction.error for prediction in predictions) else 0


if __name__ == "__main__":
    sys.exit(main())
