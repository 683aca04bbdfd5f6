"""Command line: ``python -m vision.explain runs/x FILES_OR_FOLDERS...``."""

import argparse
import os
import sys
from collections.abc import Sequence

from render.cli import command, one_line, plural, print_notes_and_failures, progress
from render.errors import MelvisionError
from vision.command_line import add_device_flag, add_plots_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.explain",
        description="Show what a model's predictions are based on. Each track gets a plot: its spectrogram, the parts "
        "of it that are evidence for the genre (occlusion: the evidence lost when a part is replaced by typical "
        "content of the track), the evidence by band and by time, the probabilities, and Grad-CAM of the "
        "convolutions. Of several tracks, bands.png and bands.csv show which bands matter for each genre: the genre "
        "of a track's folder if the model knows it, else the predicted one.",
        epilog="example: python -m vision.explain runs/standard-001 song.mp3 data/test -o explained",
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture")
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--out", default="explained", metavar="FOLDER", help="(default: %(default)s)")
    group.add_argument("--genre", metavar="NAME", help="genre to explain (default: the predicted one)")
    group.add_argument(
        "--simple", action="store_true", help="two panels a track: its spectrogram, and what of it decides"
    )
    add_plots_flag(group, "format of the plots (default: png)")
    group.add_argument("--bands-only", action="store_true", help="no plots of tracks, only the bands: much faster")
    group = parser.add_argument_group("frequency axis", "of pictures that do not say how they were drawn")
    group.add_argument("--fmax", type=float, metavar="HZ", help="highest frequency (default: unknown)")
    group.add_argument("--fmin", type=float, default=0.0, metavar="HZ", help="lowest frequency (default: 0)")
    add_device_flag(parser.add_argument_group("hardware"))
    return parser


def _parse_axis(args):
    """Return the settings of pictures that do not say how they were drawn; None where the user gives none."""
    from render.settings import Settings

    if args.fmax is None:
        if args.fmin:
            raise MelvisionError(f"--fmin {args.fmin:g}: give --fmax too")
        return None
    try:
        return Settings(sr=max(1000, -int(-2 * args.fmax // 1)), fmin=args.fmin, fmax=args.fmax)
    except (ValueError, OverflowError) as error:
        raise MelvisionError(error) from None


def _print_track(track, classes):
    from vision.attribution.explanation import strongest_evidence

    predicted, label = int(track.p.argmax()), track.explanation.label
    line = f"{classes[predicted]} {track.p[predicted]:.2f}"
    line += "" if label == predicted else f"; {classes[label]} {track.p[label]:.2f}"
    print(one_line(f"{track.path}  {line}: {strongest_evidence(track.explanation)} -> {track.plot}"))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_intermixed_args(argv)
    from render.passed_over import PassedOver
    from vision.data.folders import find_files
    from vision.data.genres import match_genre
    from vision.inference.device import keep_freed_memory
    from vision.inference.predictor import Predictor

    keep_freed_memory()
    axis = _parse_axis(args)
    predictor = Predictor(args.run, args.device)
    passed = PassedOver()
    files = find_files(args.paths, passed)
    print_notes_and_failures(passed.notes(" ".join(args.paths)), passed.failures())
    if args.genre is not None:
        genre = match_genre(args.genre, predictor.classes)
        if genre is None:
            raise MelvisionError(f"--genre {args.genre}: the model knows {', '.join(predictor.classes)}")
        args.genre = genre

    # Takes long to import: after the checks.
    from vision.attribution.explain import explain_files, why_no_grad_cam, write_bands

    kind = args.plots_as or "png"
    reason = "" if args.bands_only or args.simple else why_no_grad_cam(predictor)
    print_notes_and_failures([f"no Grad-CAM: {reason}"] if reason else [])
    tracks = explain_files(
        predictor, files, None if args.bands_only else args.out, genre=args.genre, settings=axis,
        with_grad_cam=not (reason or args.simple), simple=args.simple, kind=kind,
    )  # fmt: skip
    explained = []
    for track in progress(tracks, total=len(files), desc="explain", unit="track"):
        print_notes_and_failures(
            [f"{track.path}: {note}" for note in track.notes], [f"{track.path}: {track.error}"] if track.error else []
        )
        if track.plot:
            _print_track(track, predictor.classes)
        track.explanation = None  # its arrays are large
        explained += [] if track.error else [track]
    if len(explained) > 1:
        genres = write_bands(args.out, explained, predictor.classes, genre=args.genre, kind=kind)
        names = os.path.join(args.out, f"bands.{kind}")
        print(
            f"bands of {plural(len(genres), 'genre')}, {plural(len(explained), 'track')} "
            f"-> {one_line(names)}, bands.csv"
        )
    return 1 if passed.unreadable or len(explained) < len(files) else 0


if __name__ == "__main__":
    sys.exit(main())
