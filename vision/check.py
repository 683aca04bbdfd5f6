"""Command line: ``python -m vision.check IMAGES``: the health of a picture folder, before training on it."""

import argparse
import csv
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from render.cli import command, one_line
from render.errors import MelvisionError
from vision.command_line import DEVICE_HELP, add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

#: So many files are named under a finding.
NAMED = 10


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.check",
        description="Look a folder of genre folders over before training on it: balance, how pictures were drawn, "
        "files that cannot be used, equal pictures and others that show the same recording, and, with a model's "
        "probabilities, doubtful labels. Returns 1 when something needs attention.",
        epilog="example: python -m vision.check images_original --html health.html --groups near.csv",
    )
    parser.add_argument("images", help="pictures folder: images_original/<genre>/<track>.png")
    parser.add_argument("--html", metavar="FILE", help="also write a page with pictures of what was found")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of the text")
    parser.add_argument("--groups", metavar="CSV", help="also write which tracks are one recording: for vision.split")
    source = parser.add_mutually_exclusive_group()
    told = "predictions.csv of vision.crossval: finds doubtful labels"
    source.add_argument("--predictions", metavar="FILE", help=told)
    source.add_argument("--model", metavar="RUN", help="a run: finds doubtful labels where it was not trained on")
    add_device_flag(parser, f"for --model: {DEVICE_HELP}")
    told = "what pictures of other programs span (default: %(default)s, GTZAN's length)"
    parser.add_argument("--track-seconds", type=float, default=30.0, metavar="S", help=told)
    return parser


def _judge(health, args):
    """Fill in the doubtful labels."""
    from vision.quality.inspect import doubt_labels
    from vision.quality.label_issues import file_key, read_predictions
    from vision.splits.leaks import trained_tracks

    usable = {number: look for number, look in enumerate(health.looks) if not look.problem}
    if args.predictions:
        classes, rows, trained = read_predictions(args.predictions)
        keys = {number: file_key(f"{look.genre}/{look.file}") for number, look in usable.items()}
        found = {number: rows[key] for number, key in keys.items() if key in rows}
        learned = {number for number, key in keys.items() if key in trained}
        if not found and not learned:
            ours = "/".join(next(iter(keys.values()), ("", "")))
            raise MelvisionError(f"{args.predictions}: names no picture of {args.images}, which are like {ours}")
        return doubt_labels(health, classes, found, learned, args.predictions)
    from render.cli import progress
    from vision.inference.predictor import Predictor

    trained = trained_tracks(args.model)
    learned = {number for number, look in usable.items() if look.track in trained}
    predictor = Predictor(args.model, args.device)
    if not set(health.genres) & set(predictor.classes):
        told = ", ".join(predictor.classes)
        raise MelvisionError(f"{args.model}: knows {told}; {args.images} has none of these genres")
    numbers = [number for number, look in usable.items() if number not in learned and look.genre in predictor.classes]
    paths = [Path(args.images) / usable[number].file for number in numbers]
    bar = progress(predictor.predict_each(paths), total=len(paths), desc="predict", unit="picture")
    found = {number: prediction.p for number, prediction in zip(numbers, bar, strict=True)}
    found = {number: p for number, p in found.items() if p is not None}
    return doubt_labels(health, predictor.classes, found, learned, args.model)


def _pairs(health):
    """Equal and near-duplicate pictures as JSON-able dicts."""
    files = [look.file for look in health.looks]
    for pair in health.near:
        told = {"files": [files[pair.first], files[pair.second]], "across": health.across((pair.first, pair.second))}
        yield told | {"similarity": round(pair.similarity, 3), "offset": pair.offset, "overlap": pair.overlap}


def as_dict(health):
    """Everything found, JSON-able."""
    looks = health.looks
    files = [look.file for look in looks]
    traits = [
        {name: value for name, value in vars(look).items() if name not in ("fingerprint", "pixels")} for look in looks
    ]
    doubts = [
        {"file": files[doubt.number], "genre": looks[doubt.number].genre, **asdict(doubt)} for doubt in health.doubts
    ]
    for doubt in doubts:
        del doubt["number"]
    return {
        "images": health.root,
        "attention": any(finding.attention for finding in health.findings),
        "genres": {genre: sum(look.genre == genre for look in looks) for genre in health.genres},
        "findings": [asdict(finding) for finding in health.findings],
        "equal": [[files[number] for number in numbers] for numbers in health.equal],
        "near": list(_pairs(health)),
        "doubts": doubts,
        "pictures": traits,
    }


def _table(head, rows):
    """Lines of a table; the first column is aligned left, the others right."""
    cells = [[one_line(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for first, *others in cells:
        yield f"{first:{widths[0]}}  " + "  ".join(
            f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)
        )


def text(health):
    """The report as lines of text."""
    from vision.quality.page import drawing_rows, genre_rows

    yield from _table(["genre", "pictures", "tracks", "unusable", "share"], genre_rows(health))
    yield ""
    yield from _table(["drawn", "pictures", "margins", "seconds"], drawing_rows(health))
    named = {
        "near": [f"{a} = {b}  ({pair['similarity']:.2f})" for pair in _pairs(health) for a, b in [pair["files"]]],
        "unusable": [f"{look.file}: {look.problem}" for look in health.looks if look.problem],
        "equal": [" = ".join(health.looks[number].file for number in numbers) for numbers in health.equal],
        "doubtful": [
            f"{health.looks[doubt.number].file}: {doubt.suggested}?  ({doubt.p_suggested:.2f}, "
            f"{health.looks[doubt.number].genre} {doubt.p_given:.2f})"
            for doubt in health.doubts
        ],
    }
    for finding in sorted(health.findings, key=lambda finding: not finding.attention):
        yield ""
        yield f"{'attention' if finding.attention else 'note'}: {one_line(finding.told)}"
        lines = named.get(finding.kind, finding.files)
        yield from (f"    {one_line(line)}" for line in lines[:NAMED])
        if len(lines) > NAMED:
            yield f"    and {len(lines) - NAMED} more: --html or --json shows them"


def write_groups(path, health):
    """Write which tracks are one recording, as `vision.groups.read_groups` reads it."""
    from render import atomic

    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["track", "group"])
        for family in health.families:
            tracks = {}
            for number in family:
                look = health.looks[number]
                # Line breaks would end the line; to the split they are spaces.
                tracks[look.track] = re.sub(r"\s+", " ", f"{look.genre}/{Path(look.file.replace(chr(92), '/')).name}")
            if len(tracks) > 1:
                names = list(tracks.values())
                writer.writerows((name, f"recording of {names[0]}") for name in names)


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when something needs attention."""
    args = get_parser().parse_args(argv)
    if not 0 < args.track_seconds < 1e5:
        raise MelvisionError(f"--track-seconds {args.track_seconds:g}: expected a length in seconds")
    if args.device != "auto" and not args.model:
        raise MelvisionError(f"--device {args.device}: is for --model, which is not given")
    from vision.quality.inspect import inspect_folder

    health = inspect_folder(args.images, track_seconds=args.track_seconds)
    if args.model or args.predictions:
        _judge(health, args)
    attention = sum(finding.attention for finding in health.findings)
    if args.json:
        print(json.dumps(as_dict(health), indent=1))
    else:
        print("\n".join(text(health)))
        print(f"\n{len(health.looks)} pictures, {attention or 'nothing'} to look at")
    if args.groups:
        write_groups(args.groups, health)
        print(f"groups: {args.groups}", file=sys.stderr)
    if args.html:
        from vision.quality import page

        page.write(args.html, health)
        print(f"page: {Path(args.html).resolve()}", file=sys.stderr)
    return 1 if attention else 0


if __name__ == "__main__":
    sys.exit(main())
