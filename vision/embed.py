"""Command line: ``python -m vision.embed runs/x FILES -o embeddings.npz``."""

import argparse
import os
import sys
from collections.abc import Sequence

from render.cli import command, plural, print_notes_and_failures
from vision.command_line import add_device_flag, add_expert_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.embed",
        description="Write the embeddings of pictures and audio files, a row a file: what a trained model makes of a "
        "track before it decides on a genre. Tracks that sound alike have embeddings that lie close together.",
        epilog="example: python -m vision.embed runs/standard-001 images_original -o embeddings.npz",
    )
    parser.add_argument("run", help="run folder of vision.train, or a folder of seeds")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help=".npz, .csv or .parquet")
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
    from vision.inference.embeddings import check_ending, embed, pick_expert, write_embeddings
    from vision.inference.predictor import Predictor

    check_ending(args.out)
    keep_freed_memory()
    predictor = Predictor(args.run, args.device)
    expert = pick_expert(predictor, args.of)
    passed = PassedOver()
    files = find_files(args.paths, passed)
    print_notes_and_failures(passed.notes(" ".join(args.paths)), passed.failures())
    predictions = embed(predictor, files, expert)
    for prediction in predictions:
        print_notes_and_failures(*output.notes_and_failures(prediction))
    done = [prediction for prediction in predictions if not prediction.error]
    write_embeddings(args.out, done, predictor.classes)
    n = 0 if not done or done[0].embedding is None else len(done[0].embedding)
    print(f"{len(done)} of {plural(len(files), 'file')}, {n} numbers each, of {expert} -> {args.out}")
    return 1 if passed.unreadable or len(done) < len(files) else 0


if __name__ == "__main__":
    sys.exit(main())
