"""Command line: ``python -m vision.check IMAGES`` inspects a picture folder before anyone trains on it."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command, plural, print_notes_and_failures, progress
from render.errors import MelvisionError, ParameterError
from vision.command_line import DEVICE_HELP, add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.check",
        description="Inspect a folder of genre folders before training on it: balance, how pictures were drawn, files "
        "that cannot be used, equal pictures and near-duplicates, and, given a model's predictions, doubtful labels. "
        "Returns 1 when something needs attention.",
        epilog="example: python -m vision.check images_original --html health.html --groups near.csv",
    )
    parser.add_argument("images", help="pictures folder: images_original/<genre>/<track>.png")
    parser.add_argument(
        "--pieces", action="store_true", help="song_0 and song_1 are pieces of one track, see vision.split"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--html", metavar="FILE", help="also write a page that shows the pictures concerned")
    group.add_argument("--audio", metavar="FOLDER", help="with --html: folder of the recordings that the pictures were "
                       "drawn from; the page plays them")  # fmt: skip
    group.add_argument("--groups", metavar="CSV", help="also write which tracks are one recording, for vision.split")
    group.add_argument("--json", action="store_true", help="print everything as JSON instead of text")
    group = parser.add_argument_group("doubtful labels")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--predictions", metavar="FILE", help="predictions.csv of vision.crossval: judges all pictures")
    source.add_argument("--model", metavar="RUN", help="run folder: judges the pictures that it was not trained on")
    add_device_flag(group, f"for --model: {DEVICE_HELP}")
    group = parser.add_argument_group("reading pictures")
    group.add_argument("--track-seconds", type=float, default=30.0, metavar="S", help="length of track that pictures "
                       "drawn by other programs span (default: %(default)s, GTZAN's)")  # fmt: skip
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when something needs attention."""
    args = get_parser().parse_args(argv)
    if not 0 < args.track_seconds < 1e5:
        raise ParameterError("track_seconds", f"{args.track_seconds:g}", "a length in seconds, above 0")
    if args.device != "auto" and not args.model:
        raise MelvisionError(f"--device {args.device}: is for --model, which is not given")
    if args.audio and not args.html:
        raise MelvisionError(f"--audio {args.audio}: is for --html, which is not given")
    if args.audio and not Path(args.audio).is_dir():
        raise MelvisionError(f"--audio {args.audio}: there is no such folder")
    from vision.quality.inspect import inspect_folder, write_groups

    report = inspect_folder(args.images, track_seconds=args.track_seconds, pieces=args.pieces, progress=progress)
    unreadable = [file for finding in report.findings if finding.kind == "unreadable" for file in finding.files]
    print_notes_and_failures(failures=unreadable)
    if args.predictions or args.model:
        from vision.inference.device import keep_freed_memory
        from vision.quality import label_issues

        keep_freed_memory()
        if args.predictions:
            label_issues.judge_by_predictions(report, args.predictions)
        else:
            label_issues.judge_by_model(report, args.model, device=args.device, progress=progress)
    attention = sum(finding.attention for finding in report.findings)
    if args.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        from vision.quality.text import report_lines

        print("\n".join(report_lines(report)))
        print(f"\n{plural(len(report.pictures), 'picture')}, {attention or 'nothing'} to look at")
    if args.groups:
        write_groups(args.groups, report)
        print(f"groups: {args.groups}", file=sys.stderr)
    if args.html:
        from vision.quality import page

        page.write(args.html, report, args.audio)
        print(f"page: {Path(args.html).resolve()}", file=sys.stderr)
    return 1 if attention else 0


if __name__ == "__main__":
    sys.exit(main())
