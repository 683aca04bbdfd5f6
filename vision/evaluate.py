"""Command line: ``python -m vision.evaluate runs/x``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from render.cli import command, print_notes_and_failures
from vision.command_line import add_device_flag

# Before torch is imported, or it has no effect: operations that MPS lacks run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.evaluate",
        description="Score a trained model on the test pictures of its data folder, or on any genre folder.",
        epilog="example: python -m vision.evaluate runs/classic-001 --data other_pictures",
    )
    parser.add_argument("run", help="run folder of vision.train, its model.pt, a folder of seeds, or an .onnx file")
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="DIR", help="folder with train, dev and test, or with genre folders "
                       "(default: the one that the run was trained on)")  # fmt: skip
    group.add_argument("--split", choices=["train", "dev", "test"], help="(default: test, or dev if there is no test)")
    group.add_argument("--learn-margins", action="store_true", help="learn the margins of picture sizes new to the "
                       "model from this folder (default: cut each picture by its own edges)")  # fmt: skip
    group.add_argument("--pieces", action="store_true", help="song_0 and song_1 are pieces of one track")
    group = parser.add_argument_group("output")
    group.add_argument("--csv", metavar="FILE", help="also write the predictions for every picture")
    group.add_argument("--json", action="store_true", help="print the scores as JSON")
    add_device_flag(parser.add_argument_group("hardware"))
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a picture could not be used."""
    args = get_parser().parse_args(argv)
    from vision.inference.device import keep_freed_memory
    from vision.reports.scoring import score_run
    from vision.reports.tables import text_report, write_split_predictions

    keep_freed_memory()
    how = {name: getattr(args, name) for name in ("split", "device", "learn_margins", "pieces")}
    result = score_run(args.run, args.data, **how)
    print_notes_and_failures(result.notes, result.problems)
    if args.csv:
        write_split_predictions(args.csv, {result.split: result.predictions}, result.classes)
    if args.json:
        about = {"run": args.run, "data": str(result.folder), "trained_on": result.trained_on}
        print(json.dumps(about | result.scores, indent=1))
    else:
        if result.chosen_on:
            print("Optimistic: the epoch was chosen on these tracks.")
        print(text_report({result.split: result.scores}, result.table, result.classes, result.split), end="")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
