"""Command line: ``python -m render genres/``."""

import argparse
import collections
import sys
import time
from collections.abc import Sequence

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from render.labels import add_label_flags, columns_of
from render.settings import PRESETS, WINDOWS, Settings


def _ref(text: str) -> float | str:
    return text if text == "max" else float(text)


#: Flags of `Settings` by group: type, placeholder and help.
PICTURE_FLAGS = {
    "kind": (str, "KIND", "mel, or features: MFCC, chroma, contrast, roll-off and zero crossings in one picture"),
    "style": (str, "STYLE", "pixels, or figure: with axes and colour bar, for people and not for training"),
    "offset": (float, "S", "seconds to skip at the start of each track"),
    "duration": (float, "S", "seconds to draw of each track (default: all)"),
}
SPECTROGRAM_FLAGS = {
    "sr": (int, "HZ", "sampling rate that the audio is resampled to"),
    "n_fft": (int, "N", "length of the FFT in samples"),
    "hop_length": (int, "N", "samples from one frame (pixel column) to the next"),
    "n_mels": (int, "N", "Mel bands (pixel rows)"),
    "fmin": (float, "HZ", "lowest frequency"),
    "fmax": (float, "HZ", "highest frequency (default: sr / 2)"),
    "top_db": (float, "DB", "dynamic range below ref in decibels"),
    "ref": (_ref, "REF", "level of 0 dB: max, each track's own peak, or a fixed value, above which all is clipped"),
    "power": (float, "P", "exponent of the magnitude: 2 for power, 1 for amplitude"),
    "window": (str, "NAME", ", ".join(WINDOWS)),
    "win_length": (int, "N", "window length in samples, padded with zeros to n_fft (default: n_fft)"),
    "htk": (bool, None, "use HTK's Mel scale instead of Slaney's"),
}


def _add_settings(group: argparse._ArgumentGroup, flags: dict) -> None:
    for name, (kind, metavar, text) in flags.items():
        default = Settings.__dataclass_fields__[name].default
        flag = "--" + name.replace("_", "-")
        if kind is bool:
            group.add_argument(flag, action="store_true", help=text)
        else:
            text += "" if default is None else " (default: %(default)s)"
            group.add_argument(flag, type=kind, metavar=metavar, default=default, help=text)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m render",
        description="Draw one Mel-spectrogram PNG a track. Pictures that are up to date are kept.",
        epilog="example: python -m render genres/ -o images_original",
    )
    parser.add_argument("genres", help="folder with one folder of audio a genre: genres/blues/blues.00000.wav")
    parser.add_argument("-o", "--out", default="images_original", help="pictures folder (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--force", action="store_true", help="draw all again, and replace pictures made elsewhere")

    group = parser.add_argument_group("labels from a table")
    add_label_flags(group, "kept in OUT/groups.csv for vision.split --groups")

    group = parser.add_argument_group("picture")
    _add_settings(group, PICTURE_FLAGS)
    group.add_argument("--cmap", default="magma", help="matplotlib colormap (default: %(default)s)")
    group.add_argument("--augment", type=int, default=0, metavar="N", help="also draw N copies of each track, changed "
                       "in pitch and speed; vision.split uses them for training only (default: 0)")  # fmt: skip

    group.add_argument("--segment", type=float, metavar="S", help="draw a picture of each S seconds of a track "
                       "instead of one of it all; they stay together in vision.split and in scores")  # fmt: skip
    group.add_argument("--segment-hop", type=float, metavar="S", help="seconds from the start of one segment to that "
                       "of the next (default: --segment, no overlap)")  # fmt: skip

    group = parser.add_argument_group("spectrogram")
    group.add_argument("--preset", choices=list(PRESETS), help="settings to begin with: musicnn, what the pretrained "
                       "network of that name takes (default: those named below)")  # fmt: skip
    _add_settings(group, SPECTROGRAM_FLAGS)

    group = parser.add_argument_group("several machines")
    group.add_argument("--shard", metavar="I/N", help="draw only the I-th of N parts of the tracks")
    group.add_argument("--backend", choices=["local", "dask"], default="local", help="draw with processes on this "
                       "machine, or on a Dask cluster that sees the same files (default: %(default)s)")  # fmt: skip
    group.add_argument("--scheduler", metavar="ADDRESS", help="with --backend dask: the cluster's, tcp://host:port")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a track failed."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.preset:
        parser.set_defaults(**PRESETS[args.preset])
        args = parser.parse_args(argv)
    if (args.backend == "dask") != bool(args.scheduler):
        raise MelvisionError("--backend dask and --scheduler tcp://host:port go together; give both or neither")
    settings = Settings(**{name: getattr(args, name) for name in Settings.__dataclass_fields__})
    if args.segment_hop is not None and args.segment is None:
        raise MelvisionError("--segment-hop goes with --segment; give both or neither")
    columns = columns_of(args)
    start = time.monotonic()
    from render.batch import draw_folder
    from render.segments import Segments

    segments = None if args.segment is None else Segments(args.segment, args.segment_hop)

    results, notes = draw_folder(
        args.genres, args.out, settings, cmap=args.cmap, jobs=args.jobs, force=args.force, augment=args.augment,
        segments=segments, shard=args.shard, scheduler=args.scheduler, labels=args.labels,
        columns=columns,
    )  # fmt: skip
    seconds = time.monotonic() - start
    notes += [str(result) for result in results if result.message and result.status != "failed"]
    print_notes_and_failures(notes, [str(result) for result in results if result.status == "failed"])
    counts = collections.Counter(result.status for result in results)
    unit = "pictures" if args.augment else "tracks"
    pieces = f" ({sum(result.n_pictures for result in results if result.status != 'failed')} segments)"
    rate = f" ({counts['drawn'] / seconds:.1f} {unit} a second)" if counts["drawn"] else ""
    print(
        f"{len(results)} {unit}{pieces if segments else ''}: {counts['drawn']} drawn, {counts['fresh']} fresh already, "
        f"{counts['failed']} failed in {seconds:.1f} s{rate} -> {args.out}"
    )
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
