"""Command line: ``python -m vision.organise runs/x songs/``."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from render.cli import command, plural, print_notes_and_failures
from render.errors import MelvisionError, ParameterError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.organise",
        description="Put a music library in order by the genres that a trained model predicts: genre folders, "
        "playlists, tags. Without --apply it only says what it would do. Nothing is overwritten, what the model is "
        "unsure of is kept apart, and --undo takes all of it back.",
        epilog="example: python -m vision.organise runs/standard-001 songs --sort-into sorted --apply",
    )
    parser.add_argument("run", nargs="?", help="run folder of vision.train, a folder of seeds, or an .onnx file")
    parser.add_argument("paths", nargs="*", metavar="FILE_OR_FOLDER", help="audio files, and folders of them")
    group = parser.add_argument_group("what to do")
    group.add_argument("--sort-into", metavar="DIR", help="put the files into DIR/<genre>/")
    group.add_argument("--by", choices=["copy", "link", "move"], default="copy", help="how --sort-into does so "
                       "(default: %(default)s)")  # fmt: skip
    group.add_argument("--playlists", metavar="DIR", help="write DIR/<genre>.m3u8")
    group.add_argument("--tags", action="store_true", help="write the genre into the files' tags (mutagen)")
    group.add_argument("--min-probability", type=float, default=0.0, metavar="P", help="take less probable genres for "
                       "unsure (default: %(default)s)")  # fmt: skip
    group = parser.add_argument_group("doing it")
    group.add_argument("--apply", action="store_true", help="do it, and not only say it")
    group.add_argument("--log", metavar="FILE", help="where --apply notes what it does (default: "
                       "organise-<time>.jsonl)")  # fmt: skip
    group.add_argument("--undo", metavar="LOG", help="take back what a log says was done")
    add_device_flag(parser)
    return parser


def _check(args: argparse.Namespace) -> None:
    if args.undo:
        if args.run or args.sort_into or args.playlists or args.tags or args.apply:
            raise MelvisionError(f"--undo {args.undo}: takes back all that the log says; give nothing else")
        return
    if not args.paths:
        raise MelvisionError("expected a run and files or folders: python -m vision.organise RUN SONGS")
    if not (args.sort_into or args.playlists or args.tags):
        raise MelvisionError("nothing to do; expected --sort-into DIR, --playlists DIR or --tags")
    if not 0 <= args.min_probability <= 1:
        raise ParameterError("min_probability", args.min_probability, "from 0 to 1")


def _print_done(done: Iterable, verb: str) -> int:
    """Print what fails; returns the exit code."""
    counts: Counter[str] = Counter()
    failed = 0
    for step, problem in done:
        if problem:
            failed += 1
            print_notes_and_failures(failures=[problem])
        else:
            counts[step.action] += 1
    parts = ", ".join(f"{n} {action}" for action, n in counts.items()) or "nothing"
    print(f"{verb}: {parts}" + (f"; {failed} failed" if failed else ""))
    return 1 if failed else 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when something could not be done."""
    args = get_parser().parse_args(argv)
    _check(args)
    from vision.inference.organise import apply, genre_of, plan, undo

    if args.undo:
        return _print_done(undo(args.undo), "taken back")
    from render.cli import progress
    from render.formats import AUDIO_ENDINGS
    from render.passed_over import PassedOver
    from vision.data.folders import find_files
    from vision.inference import output
    from vision.inference.device import keep_freed_memory
    from vision.inference.predictor import Predictor
    from vision.reports.text_table import text_table

    keep_freed_memory()
    predictor, passed = Predictor(args.run, args.device), PassedOver()
    files = [path for path in find_files(args.paths, passed) if path.suffix.lower() in AUDIO_ENDINGS]
    print_notes_and_failures(passed.notes(" ".join(args.paths)), passed.failures())
    if not files:
        raise MelvisionError(f"{' '.join(args.paths)}: no audio file in it; expected songs")
    each = progress(predictor.predict_each(files), total=len(files), desc="predict", unit="file")
    predictions = list(each)
    for prediction in predictions:
        print_notes_and_failures(*output.notes_and_failures(prediction))
    done = [prediction for prediction in predictions if not prediction.error]
    steps = plan(
        done, sort_into=args.sort_into, way=args.by, playlists=args.playlists, tags=args.tags,
        min_probability=args.min_probability,
    )  # fmt: skip
    rows = [[one.path, genre_of(one, args.min_probability), f"{one.probability or 0:.3f}"] for one in done]
    print("\n".join(text_table(["file", "genre", "probability"], rows)))
    unusable = 1 if passed.unreadable or len(done) < len(files) else 0
    if not args.apply:
        print(
            "\n".join(
                ["", *map(str, steps), "", f"{plural(len(steps), 'step')}; nothing was changed: add --apply to do them"]
            )
        )
        return unusable
    log = Path(args.log or time.strftime("organise-%Y%m%d-%H%M%S.jsonl"))
    code = _print_done(apply(steps, log), "done")
    if log.exists():
        print(f"to take it back: python -m vision.organise --undo {log}")
    return code or unusable


if __name__ == "__main__":
    sys.exit(main())
