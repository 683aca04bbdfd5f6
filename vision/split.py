"""Pictures to ``data/{train,dev,test}/<genre>/``, so that nothing of a track is on two sides.

Command line: ``python -m vision.split images_original``.
"""

import argparse
import sys

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError
from vision.splits.assign import SPLITS
from vision.splits.folder import split_folder, summary
from vision.splits.groups import merge_groups, read_groups, read_list
from vision.splits.leaks import find_leaks, find_splits


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.split",
        description="Link pictures into DATA/{train,dev,test}/<genre>/, no track or group on two sides. "
        "Run it again after dropping pictures in: what is assigned stays.",
        epilog="example: python -m vision.split images_original --groups artists.csv",
    )
    parser.add_argument("images", help="pictures folder: images_original/<genre>/<track>.png; with --check, DATA")
    parser.add_argument("-o", "--out", default="data", help="data folder (default: %(default)s)")
    parser.add_argument("--ratios", metavar="A/B/C", help="shares of train, dev and test (default: 80/10/10)")
    parser.add_argument("--seed", type=int, help="of the draw (default: 0)")
    told = "track,group lines, or Sturm's index: an artist stays together; may be given several times"
    parser.add_argument("--groups", metavar="CSV", action="append", help=told)
    for split in SPLITS:
        parser.add_argument(f"--{split}-list", metavar="FILE", help=f"tracks that a published split has in {split}")
    parser.add_argument("--check", action="store_true", help="only look for leaks in folders that are split already")
    return parser


def _ratios(text):
    try:
        ratios = [float(part) for part in text.split("/")]
    except ValueError:
        ratios = []
    if len(ratios) != 3 or not ratios[0] > 0 or not ratios[1] > 0 or not 0 <= ratios[2] < float("inf"):
        raise MelvisionError(f"--ratios {text}: expected three numbers such as 80/10/10; only test may be 0")
    return ratios


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when something needs attention."""
    args = get_parser().parse_args(argv)
    wanted = {}
    if args.groups:
        wanted["groups"] = merge_groups([read_groups(path) for path in args.groups])
    if args.check:
        leaks, problems = find_leaks(args.images, wanted.get("groups", {}))
        for line in leaks + problems:
            print(line)
        print(f"{args.images}: {len(leaks)} leaks between " + ", ".join(find_splits(args.images)))
        return 1 if leaks or problems else 0
    if args.ratios:
        wanted["ratios"] = _ratios(args.ratios)
    if args.seed is not None:
        wanted["seed"] = args.seed
    lists = {split: getattr(args, f"{split}_list") for split in SPLITS}
    lists = {split: read_list(path) for split, path in lists.items() if path}
    if lists:
        if "train" not in lists or len(lists) < 2:
            raise MelvisionError(
                "published lists: expected --train-list and at least one of --dev-list and --test-list"
            )
        wanted["lists"] = lists
    rows, problems, notes, new = split_folder(args.images, args.out, **wanted)
    print_notes_and_failures(notes, problems)
    print("\n".join(summary(rows)))
    print(f"{len(rows)} pictures ({len(new)} new) -> {args.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
