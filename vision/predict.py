"""Command line: ``python -m vision.predict runs/x FILES_OR_FOLDERS...``."""

import argparse
import json
import os
import sys

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.predict",
        description="Say which genre spectrogram pictures or audio files are. Audio is drawn the way the "
        "model's train pictures were; a track much longer than those is predicted in pieces and averaged. "
        "--timeline says how the genre changes along it; --watch predicts what is dropped into a folder; "
        "--stdin predicts a stream every second.",
        epilog="example: python -m vision.predict runs/standard-001 song.mp3 images_original/blues --csv genres.csv",
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    parser.add_argument(
        "paths", nargs="*", metavar="FILE_OR_FOLDER",
        help="pictures and audio, any mixture; patterns that the shell leaves ('songs/**/*.mp3') are expanded",
    )  # fmt: skip
    parser.add_argument("--csv", metavar="FILE", help="also write all probabilities, a line a file")
    parser.add_argument("--json", action="store_true", help="print all probabilities as JSON instead of the table")
    add_device_flag(parser)
    parser.add_argument("--learn-margins", action="store_true", help="learn the margins of picture sizes new to the "
                        "model from these files (default: cut each by its own edges)")  # fmt: skip
    parser.add_argument("--timeline", action="store_true", help="also say which stretch of each file is which genre")
    parser.add_argument("--plots", metavar="FOLDER", help="where --timeline puts a plot and a table (CSV) for each "
                        "file (default: timelines)")  # fmt: skip
    parser.add_argument("--watch", metavar="FOLDER", help="predict what is in this folder and what is dropped in, each "
                        "file once, until Ctrl-C; remembered in --csv (default: predictions.csv in it)")  # fmt: skip
    parser.add_argument("--stdin", action="store_true", help="predict standard input every second: WAV, or raw samples")
    parser.add_argument("--rate", type=int, metavar="HZ", help="--stdin gives raw 16-bit little-endian mono samples, "
                        "so many a second")  # fmt: skip
    return parser


def _check(args):
    given = [name for name, there in (("files", args.paths), ("--watch", args.watch), ("--stdin", args.stdin)) if there]
    if len(given) != 1:
        found = " and ".join(given) or "nothing to predict"
        raise MelvisionError(f"{found}; expected files and folders, or --watch FOLDER, or --stdin")
    for flag, there, goes_with, fits in (
        ("--rate", args.rate is not None, "--stdin", args.stdin),
        ("--csv", args.csv, "files or --watch", not args.stdin),
        ("--timeline", args.timeline, "files", args.paths),
        ("--plots", args.plots, "--timeline", args.timeline),
    ):
        if there and not fits:
            raise MelvisionError(f"{flag}: goes with {goes_with} only")
    if args.rate is not None and not 1000 <= args.rate <= 768000:
        raise MelvisionError(f"--rate {args.rate}: expected 1000 to 768000 Hz")


def _predict_files(args):
    from render.cli import progress
    from vision.data.folders import find_files
    from vision.inference.output import as_dict, complain, show, write_predictions
    from vision.inference.predictor import Predictor

    predictor = Predictor(args.run, args.device)
    files = find_files(args.paths)
    if args.learn_margins:
        predictor.learn_margins(files)
    stretches = {}
    todo = _over_time(args, predictor, files, stretches) if args.timeline else predictor.predict_each(files)
    predictions = list(progress(todo, total=len(files), desc="predict", unit="file"))
    width = max(len(str(file)) for file in files)
    told = []
    for prediction in predictions:
        if args.json:
            complain(prediction)
        else:
            show(prediction, predictor.classes, width=width)
        told.append(as_dict(prediction, predictor.classes))
        if prediction.path in stretches:
            told[-1]["timeline"] = stretches[prediction.path]
            if not args.json:
                _show_stretches(stretches[prediction.path])
    if args.json:
        print(json.dumps(told, indent=1))
    if args.csv:
        write_predictions(args.csv, predictions, predictor.classes)
    return 1 if any(prediction.error for prediction in predictions) else 0


def _over_time(args, predictor, files, stretches):
    """Yield predictions; plots and tables are written, and `stretches` filled in, on the way."""
    from pathlib import Path

    from vision.inference import timeline
    from vision.reports import plots

    folder, names = Path(args.plots or "timelines"), {}
    for path in files:
        prediction, times, probabilities = timeline.predict_over_time(predictor, path)
        if times is not None:
            stretches[path] = [
                {"from": round(start, 2), "to": round(end, 2), "genre": predictor.classes[k], "p": round(p, 4)}
                for start, end, k, p in timeline.segments(times, probabilities)
            ]
            # Equal names from two folders get numbers; an ending more must not make a name too long for the disk.
            name = path.name[:60]
            names[name] = names.get(name, 0) + 1
            name += f" ({names[name]})" if names[name] > 1 else ""
            timeline.write_csv(folder / f"{name}.csv", times, probabilities, predictor.classes)
            plots.plot_timeline(folder / f"{name}.png", times, probabilities, predictor.classes, path.name)
        yield prediction


def _show_stretches(stretches):
    from render.cli import one_line
    from vision.inference.timeline import clock

    digits = 0 if all(stretch["to"] - stretch["from"] >= 2 for stretch in stretches) else 1
    for stretch in stretches:
        start, end = clock(stretch["from"], digits), clock(stretch["to"], digits)
        print(f"  {start:>9} - {end:>9}  {one_line(stretch['genre']):<10} {stretch['p']:.3f}")


def _watch(args):
    from pathlib import Path

    from vision.inference import watch
    from vision.inference.output import show
    from vision.inference.predictor import Predictor

    folder = Path(args.watch)
    predictor = Predictor(args.run, args.device)
    watch.look(folder)
    path = args.csv or folder / "predictions.csv"
    table = watch.Table(path, folder, predictor.classes)
    print(f"watching {folder}; predictions go to {path}; Ctrl-C ends", file=sys.stderr, flush=True)
    for prediction in watch.watch(predictor, folder, table):
        show(prediction, predictor.classes, as_json=args.json)


def _predict_stream(args):
    from vision.inference import stream
    from vision.inference.output import show_live
    from vision.inference.predictor import Predictor

    predictor = Predictor(args.run, args.device)
    pcm = stream.Pcm(sys.stdin.buffer, args.rate)
    try:
        answers = stream.live(predictor, pcm, pcm.sr)
        n = show_live(answers, predictor.classes, as_json=args.json)
    except stream.UNUSABLE as error:
        raise MelvisionError(f"standard input: {error}") from None
    if pcm.note:
        print_notes_and_failures([f"standard input {pcm.note}"])
    if not n:
        seconds = predictor.preprocessor.settings.n_fft / predictor.preprocessor.settings.sr
        raise MelvisionError(f"standard input: too short; expected {seconds:.3f} s or more")
    return 0


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_args(argv)
    _check(args)
    if args.watch:
        return _watch(args)
    return _predict_stream(args) if args.stdin else _predict_files(args)


if __name__ == "__main__":
    sys.exit(main())
