"""Command line: ``python -m vision.map runs/x FILES -o map.html``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command, plural, print_notes_and_failures
from vision.command_line import add_device_flag, add_expert_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.map",
        description="Draw a map of tracks as one web page: tracks that a trained model takes for alike lie close "
        "together. It shows each track's picture and its nearest neighbours, and plays its sound.",
        epilog="example: python -m vision.map runs/standard-001 images_original --audio genres -o map.html",
    )
    parser.add_argument("run", help="run folder of vision.train, or a folder of seeds")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture")
    parser.add_argument("-o", "--out", default="map.html", metavar="FILE", help="the page (default: %(default)s)")
    parser.add_argument("--audio", metavar="FOLDER", help="folder with the recordings that pictures were drawn from, "
                        "by the same names; the page plays them from where they are")  # fmt: skip
    add_expert_flag(parser)
    add_device_flag(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_args(argv)
    from render.passed_over import PassedOver
    from vision.data.folders import find_files
    from vision.inference import output
    from vision.inference.device import keep_freed_memory
    from vision.inference.embeddings import embed
    from vision.inference.predictor import Predictor
    from vision.reports.map_page import write_map
    from vision.reports.recordings import find_recordings

    keep_freed_memory()
    predictor = Predictor(args.run, args.device)
    passed = PassedOver()
    files = find_files(args.paths, passed)
    recordings = find_recordings(args.audio) if args.audio else {}
    print_notes_and_failures(passed.notes(" ".join(args.paths)), passed.failures())
    predictions = embed(predictor, files, args.of)
    for prediction in predictions:
        print_notes_and_failures(*output.notes_and_failures(prediction))
    done = [prediction for prediction in predictions if not prediction.error]
    write_map(args.out, done, predictor, recordings)
    print(f"{len(done)} of {plural(len(files), 'track')} -> {Path(args.out).resolve()}")
    return 1 if passed.unreadable or len(done) < len(files) else 0


if __name__ == "__main__":
    sys.exit(main())
