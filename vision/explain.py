"""Command line: ``python -m vision.explain runs/x FILES_OR_FOLDERS...``."""

import argparse
import os
import sys
from pathlib import Path

from render.cli import command, one_line, print_notes_and_failures
from render.errors import MelvisionError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

#: Stretches of a track's profiles: bands, and times of a track of up to as many windows.
BANDS, TIMES = 16, 12


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.explain",
        description="Show what a model's answers come from. Each track gets a picture: the spectrogram, what in it "
        "speaks for the genre (occlusion: evidence lost when a place is replaced by what the rest makes one "
        "expect), which bands and times do, the probabilities, and Grad-CAM of the convolutions. Of several "
        "tracks, bands.png and bands.csv tell which bands decide each genre: the genre of a track's folder, where the "
        "model knows it, else the predicted one.",
        epilog="example: python -m vision.explain runs/standard-001 song.mp3 data/test -o explained",
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture")
    parser.add_argument("-o", "--out", default="explained", metavar="FOLDER", help="(default: explained)")
    parser.add_argument("--genre", metavar="NAME", help="explain this genre (default: the predicted one)")
    parser.add_argument("--bands-only", action="store_true", help="no picture a track, only the bands: much faster")
    unknown = "of pictures that do not tell theirs, as other programs'"
    parser.add_argument("--fmax", type=float, metavar="HZ", help=f"highest frequency {unknown} (default: not named)")
    parser.add_argument("--fmin", type=float, default=0.0, metavar="HZ", help="and the lowest (default: 0)")
    add_device_flag(parser)
    return parser


def _given_settings(args):
    """What the user says of pictures that do not tell their frequencies; None where nothing."""
    from render.settings import Settings

    if args.fmax is None:
        if args.fmin:
            raise MelvisionError(f"--fmin {args.fmin:g}: give --fmax too")
        return None
    try:
        return Settings(sr=max(1000, -int(-2 * args.fmax // 1)), fmin=args.fmin, fmax=args.fmax)
    except (ValueError, OverflowError) as error:
        raise MelvisionError(error) from None


def _without_cam(predictor):
    """Why Grad-CAM cannot be had of a model; empty where it can."""
    from importlib.util import find_spec

    from vision.attribution.grad_cam import feature_layer

    if not predictor.models:
        return "an exported model has no layers to look into"
    if not find_spec("captum"):
        return 'it needs captum: pip install -e ".[explain]"'
    try:
        for model in predictor.models:
            feature_layer(model, predictor.spec.size)
    except ValueError as error:
        return f"the model {error}"
    return ""


def _explain(predictor, read, p, bands, label, with_cam):
    """All that the plot of a track shows, as `Explanation`, less its name."""
    from vision.attribution.grad_cam import grad_cam
    from vision.attribution.occlusion import occlusion, saliency
    from vision.attribution.plots import Explanation
    from vision.data.pixel_store import PixelStore
    from vision.models.classifier import GenreClassifier

    x, seconds, settings = read.x, read.seconds, read.settings
    spec = predictor.spec
    n = len(PixelStore.of(x[None]).starts(0))
    times = min(n * max(1, TIMES // n), x.shape[-1])
    start = settings.offset if settings else 0.0
    textured = any(model.texture is not None for model in predictor.models)
    return Explanation(
        name="", x=x, start=start,
        # A track shorter than the window is repeated, and shown so; whole tracks are as wide as any.
        end=start + (x.shape[-1] * spec.seconds_per_pixel if spec.window else seconds),
        settings=settings, classes=predictor.classes, probabilities=p, label=label,
        heat=saliency(predictor, x, label),
        cam=grad_cam(predictor.models, x, label) if with_cam else None,
        share=1 - GenreClassifier.TEXTURE if textured else 1.0,
        bands=bands, times=occlusion(predictor.probabilities, x, label, bands=1, times=times)[0],
    )  # fmt: skip


def _strongest(found):
    """Where most evidence is, in words."""
    from vision.attribution.occlusion import FAINT
    from vision.attribution.plots import frequencies

    told = []
    n = len(found.bands)
    if found.bands.max() > FAINT:
        band = n - 1 - int(found.bands.argmax())
        edges = frequencies(found.settings, n)
        told.append(f"band {band + 1} of {n}" if edges is None else f"{edges[band]:.0f} to {edges[band + 1]:.0f} Hz")
    if found.times.max() > FAINT:
        step, at = (found.end - found.start) / len(found.times), int(found.times.argmax())
        places = 0 if step >= 2 else 1
        told.append(f"{found.start + at * step:.{places}f} to {found.start + (at + 1) * step:.{places}f} s")
    return "most by " + " and by ".join(told) if told else "no single band or time decides"


def _write_csv(path, genres, settings):
    """Write the bands of each genre, the lowest first."""
    import csv

    from render import atomic
    from vision.attribution.plots import frequencies

    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["genre", "tracks", "band", "low_hz", "high_hz", "mean_bits", "low_bits", "high_bits"])
        for genre, found in genres.items():
            n = len(found["mean"])
            edges = frequencies(settings, n)
            for band in range(n):
                hz = ["", ""] if edges is None else [f"{edges[band]:.1f}", f"{edges[band + 1]:.1f}"]
                values = [found[end][band] for end in ("mean", "low", "high")]
                bits = ["" if value != value else f"{value:.4f}" for value in values]  # no interval of one track
                writer.writerow([genre, found["n"], band + 1, *hz, *bits])


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_args(argv)
    from render.cli import progress
    from vision.data.folders import find_files
    from vision.inference.predictor import UNUSABLE, Predictor

    given = _given_settings(args)
    predictor = Predictor(args.run, args.device)
    files = find_files(args.paths)
    classes = predictor.classes
    if args.genre is not None and args.genre not in classes:
        raise MelvisionError(f"--genre {args.genre}: the model knows {', '.join(classes)}")
    chosen = None if args.genre is None else classes.index(args.genre)

    # What takes long to import comes after what can be wrong.
    from vision.attribution.occlusion import evidence, occlude
    from vision.attribution.plots import plot_bands, plot_track, summarise, track_path

    out = Path(args.out)
    why = "" if args.bands_only else _without_cam(predictor)
    if why:
        print_notes_and_failures([f"no Grad-CAM: {why}"])
    profiles, drawn, taken, failed = {}, [], set(), 0
    for path in progress(files, total=len(files), desc="explain", unit="track"):
        try:
            read = predictor.read(path)
        except UNUSABLE as error:
            print_notes_and_failures(failures=[f"{path}: {str(error) or type(error).__name__}"])
            failed += 1
            continue
        x, notes, seconds, settings = read.x, read.notes, read.seconds, read.settings
        if predictor.spec.window and seconds < 0.9 * predictor.spec.window:
            notes = [*notes, f"is {seconds:.1f} s long; the model hears it repeated, for {predictor.spec.window:g} s"]
        print_notes_and_failures(f"{path}: {note}" for note in notes)
        settings = settings or given
        whole, occluded = occlude(predictor.probabilities, x, bands=min(BANDS, predictor.spec.size), times=1)
        by_band = evidence(whole) - evidence(occluded[:, 0])
        predicted = int(whole.argmax())
        folder = path.resolve().parent.name
        genre = folder if folder in classes else classes[predicted]
        shown = classes.index(genre) if chosen is None else chosen
        profiles.setdefault(genre, []).append(by_band[::-1, shown])
        drawn.append(settings)
        if not args.bands_only:
            label = predicted if chosen is None else chosen
            read.settings = settings
            found = _explain(predictor, read, whole, by_band[:, label], label, not why)
            found.name = path.name
            target = track_path(out, path, taken, folder if folder in classes else "")
            plot_track(target, found)
            told = f"{classes[predicted]} {whole[predicted]:.2f}"
            told += "" if label == predicted else f"; {classes[label]} {whole[label]:.2f}"
            print(f"{one_line(path)}  {told}: {_strongest(found)} -> {one_line(target)}")
    if len(drawn) > 1:
        # Frequencies can be named where all tracks have the same.
        axes = {(s.kind, s.sr if s.fmax is None else 0, s.n_mels, s.fmin, s.fmax, s.htk) if s else None for s in drawn}
        settings = drawn[0] if len(axes) == 1 else None
        genres = {genre: summarise(profiles[genre]) for genre in classes if genre in profiles}
        what = "each genre" if chosen is None else f"{args.genre}, in tracks of each genre"
        plot_bands(out / "bands.png", genres, settings, f"Which bands speak for {what}")
        _write_csv(out / "bands.csv", genres, settings)
        print(f"bands of {len(genres)} genres, {len(drawn)} tracks -> {one_line(out / 'bands.png')}, bands.csv")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
