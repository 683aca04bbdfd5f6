"""Command line: ``python -m render genres/``."""

import argparse
import collections
import dataclasses
import sys
import time

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from render.settings import Settings


def _ref(text):
    return text if text == "max" else float(text)


FLAGS = {
    "kind": (str, "KIND", "mel, or features: MFCC, chroma, contrast, roll-off and zero crossings in one picture"),
    "style": (str, "STYLE", "pixels, or figure: with axes and colour bar, for people and not for training"),
    "sr": (int, "HZ", "sampling rate the audio is brought to"),
    "n_fft": (int, "N", "samples transformed a frame"),
    "hop_length": (int, "N", "samples from one frame (pixel column) to the next"),
    "win_length": (int, "N", "window length, padded to n_fft (default: n_fft)"),
    "window": (str, "NAME", "hann, hamming, blackman, boxcar ..."),
    "n_mels": (int, "N", "Mel bands (pixel rows)"),
    "fmin": (float, "HZ", "lowest frequency"),
    "fmax": (float, "HZ", "highest frequency (default: sr / 2)"),
    "htk": (bool, None, "HTK's Mel scale in place of Slaney's"),
    "power": (float, "P", "exponent of the magnitude: 2 for power, 1 for amplitude"),
    "ref": (_ref, "REF", "0 dB: max, the track's own peak, or a fixed value, above which all is clipped"),
    "top_db": (float, "DB", "decibels kept below ref"),
    "offset": (float, "S", "seconds to skip at the start of each track"),
    "duration": (float, "S", "seconds to draw of each track (default: all)"),
}


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m render",
        description="Draw one Mel-spectrogram PNG a track. What is drawn already is passed over.",
        epilog="example: python -m render genres/ -o images_original",
    )
    parser.add_argument("genres", help="folder with one folder of audio a genre: genres/blues/blues.00000.wav")
    parser.add_argument("-o", "--out", default="images_original", help="pictures folder (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--shard", metavar="I/N", help="draw only the I-th of N parts, for one machine of several")
    parser.add_argument("--backend", choices=["local", "dask"], default="local", help="where to draw: processes here, "
                        "or a Dask cluster that sees the same files (default: %(default)s)")  # fmt: skip
    parser.add_argument("--scheduler", metavar="ADDRESS", help="the cluster's, for --backend dask: tcp://host:port")
    parser.add_argument("--cmap", default="magma", help="matplotlib colormap of the pictures (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="draw all anew, and replace pictures made elsewhere")
    parser.add_argument("--augment", type=int, default=0, metavar="N", help="also draw N copies a track, shifted "
                        "in pitch and stretched; vision.split uses them in train only")  # fmt: skip
    group = parser.add_argument_group("spectrogram")
    for field in dataclasses.fields(Settings):
        kind, metavar, text = FLAGS[field.name]
        text += "" if field.default is None else " (default: %(default)s)"
        flag = "--" + field.name.replace("_", "-")
        if kind is bool:
            group.add_argument(flag, action="store_true", help=FLAGS[field.name][2])
        else:
            group.add_argument(flag, type=kind, metavar=metavar, default=field.default, help=text)
    return parser


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a track failed."""
    args = get_parser().parse_args(argv)
    if args.jobs == 0 or args.jobs < -1:
        raise MelvisionError(f"--jobs {args.jobs}: expected a number of processes, or -1 for one a core")
    if not 0 <= args.augment <= 1000:
        raise MelvisionError(f"--augment {args.augment}: expected from 0 to 1000 copies a track")
    if (args.backend == "dask") != bool(args.scheduler):
        raise MelvisionError("--backend dask and --scheduler tcp://host:port go together; give both or neither")
    try:
        settings = Settings(**{name: getattr(args, name) for name in FLAGS})
    except ValueError as error:
        raise MelvisionError(error) from None
    start = time.monotonic()
    from render.batch import draw_folder

    results, notes = draw_folder(
        args.genres, args.out, settings, cmap=args.cmap, jobs=args.jobs, force=args.force, copies=args.augment,
        shard=args.shard, scheduler=args.scheduler,
    )  # fmt: skip
    seconds = time.monotonic() - start
    counts = collections.Counter(result.status for result in results)
    notes += [str(result) for result in results if result.message and result.status != "failed"]
    print_notes_and_failures(notes, [str(result) for result in results if result.status == "failed"])
    what = "pictures" if args.augment else "tracks"
    rate = f" ({counts['drawn'] / seconds:.1f} {what} a second)" if counts["drawn"] else ""
    print(
        f"{len(results)} {what}: {counts['drawn']} drawn, {counts['fresh']} fresh already, "
        f"{counts['failed']} failed in {seconds:.1f} s{rate} -> {args.out}"
    )
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
