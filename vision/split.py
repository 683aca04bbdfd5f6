"""Command line: ``python -m vision.split images_original``."""

import argparse
import sys
from collections.abc import Sequence

from render.cli import command, plural, print_notes_and_failures
from render.errors import MelvisionError, ParameterError
from render.labels import add_label_flags, columns_of
from vision.reports.text_table import split_lines
from vision.splits.assign import SPLITS
from vision.splits.folder import EXPECTED_RATIOS, link_or_copy, split_folder
from vision.splits.groups import merge_groups, normalise_groups, read_groups, read_list
from vision.splits.labelled import arrange
from vision.splits.leaks import find_leaks, find_splits


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.split",
        description="Link pictures into DATA/{train,dev,test}/<genre>/, with each track and each group in one split "
        "only. Run it again after adding pictures: assignments never change.",
        epilog="example: python -m vision.split images_original --groups artists.csv",
    )
    parser.add_argument("images", help="pictures folder: images_original/<genre>/<track>.png; with --labels any "
                        "folder of pictures; with --check, DATA")  # fmt: skip
    parser.add_argument("-o", "--out", default="data", metavar="DATA", help="data folder (default: %(default)s)")
    group = parser.add_argument_group("labels from a table")
    add_label_flags(group, "its tracks stay in one split")
    group = parser.add_argument_group("random split")
    group.add_argument("--ratios", metavar="A/B/C", help="shares of train, dev and test (default: 80/10/10)")
    group.add_argument("--seed", type=int, help="random seed (default: 0)")
    group = parser.add_argument_group("what stays together")
    group.add_argument("--groups", metavar="CSV", action="append",
                       help="tracks that must be in one split, say by artist: lines of track,group, or Sturm's index "
                       "of GTZAN; may be given several times")  # fmt: skip
    group.add_argument("--pieces", action="store_true", help="names that differ only in a number at the end, such as "
                       "song_0 and song_1, are pieces of one track")  # fmt: skip
    group.add_argument("--groups-from-folders", action="store_true", help="the first folder inside a genre is an "
                       "artist: rock/<artist>/<track>.png")  # fmt: skip
    group = parser.add_argument_group("published split", "text files with one track a line")
    for split in SPLITS:
        group.add_argument(f"--{split}-list", metavar="FILE", help=f"tracks of {split}")
    group = parser.add_argument_group("check")
    group.add_argument(
        "--check", action="store_true", help="only look for leaks between folders that are split already"
    )
    return parser


def _parse_ratios(text):
    try:
        return [float(part) for part in text.split("/")]
    except ValueError:
        raise ParameterError("ratios", text, EXPECTED_RATIOS) from None


def _read_lists(args):
    paths = {split: getattr(args, f"{split}_list") for split in SPLITS}
    lists = {split: read_list(path) for split, path in paths.items() if path}
    if lists and ("train" not in lists or len(lists) < 2):
        raise MelvisionError("published lists: expected --train-list and at least one of --dev-list and --test-list")
    return lists


def _check(data, groups, pieces, folders):
    notes = []
    leaks, problems = find_leaks(data, groups, pieces=pieces, folders=folders, notes=notes)
    print_notes_and_failures(notes)
    for line in leaks + problems:
        print(line)
    print(f"{data}: {len(leaks)} leaks between " + ", ".join(find_splits(data)))
    return 1 if leaks or problems else 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when something needs attention."""
    args = get_parser().parse_args(argv)
    groups = merge_groups(map(read_groups, args.groups)) if args.groups else None
    if args.check:
        return _check(args.images, groups, args.pieces, args.groups_from_folders)
    ratios = _parse_ratios(args.ratios) if args.ratios else None
    columns = columns_of(args)
    if args.labels:
        args.images, of_table, notes = arrange(args.images, args.labels, columns, link_or_copy)
        print_notes_and_failures([*notes, f"{args.images}: the pictures, linked into a folder a label"])
        groups = merge_groups([groups or {}, normalise_groups(of_table)]) if of_table else groups
    result = split_folder(
        args.images, args.out, seed=args.seed, ratios=ratios, lists=_read_lists(args) or None, groups=groups,
        pieces=args.pieces or None, folders=args.groups_from_folders or None,
    )  # fmt: skip
    print_notes_and_failures(result.notes + result.missing(), result.problems)
    for line in split_lines(result):
        print(line)
    print(f"{plural(len(result.rows), 'picture')} ({len(result.new)} new) -> {args.out}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
