"""What all commands share: exit codes, one-line errors, notes, failures and progress."""

import functools
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

from render.errors import MelvisionError, ParameterError

Item = TypeVar("Item")

#: Whether a command is running: the same functions, called by a Python program, show no progress.
_in_command = ContextVar("in_command", default=False)


def one_line(text: object) -> str:
    """Return `text` with line breaks and other control characters escaped: file names may hold any."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: repr(match[0])[1:-1], str(text))


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Decorate a ``main(argv=None) -> int`` so that a user's mistake is reported in one line.

    Exit codes: what `main` returns (0 done, 1 done with failures listed), 2 for a `MelvisionError` or a
    path that cannot be read or written, 130 after Ctrl-C and 141 when the reader of a pipe has gone,
    as in shells.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        # Pillow warns of pictures of over 89 million pixels; `png.open_picture` refuses them with an error anyway.
        warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
        # Nor does it matter that EXIF data are damaged: the picture is then taken as it lies.
        warnings.filterwarnings("ignore", message="Corrupt EXIF data")
        # A file name may hold bytes that this terminal cannot show: print them as escapes instead of
        # failing with a UnicodeEncodeError.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        outside = _in_command.set(True)
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except MelvisionError as error:
            message = error.as_flag() if isinstance(error, ParameterError) else error
            print(f"error: {one_line(message)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; what was finished is kept", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # The reader (`| head`) has gone; point stdout at /dev/null so that Python's flush at exit does not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
            return 2
        finally:
            _in_command.reset(outside)

    return wrapped


def note_and_failure_lines(notes: Iterable[object], failures: Iterable[object]) -> list[str]:
    """Return ``note: ...`` and ``failed: ...`` lines, the notes first.

    Parameters
    ----------
    notes : iterable
        What the user should know though nothing failed, such as ``"PATH: reason"``.
    failures : iterable
        What could not be used or done, such as ``"PATH: reason"``.
    """
    return [f"note: {one_line(note)}" for note in notes] + [f"failed: {one_line(failure)}" for failure in failures]


def print_notes_and_failures(notes: Iterable[object] = (), failures: Iterable[object] = ()) -> None:
    """Print `note_and_failure_lines` to standard error at once."""
    for line in note_and_failure_lines(notes, failures):
        print(line, file=sys.stderr, flush=True)


def progress(iterable: Iterable[Item], *, total: int, desc: str, unit: str, every: float = 10.0) -> Iterator[Item]:
    """Yield from `iterable` and, while a `command` runs, show the progress on standard error.

    A tqdm bar on a terminal; elsewhere (a log file, CI) one plain line every `every` seconds.

    Parameters
    ----------
    iterable : iterable
        What to iterate over.
    total : int
        How many items it has.
    desc, unit : str
        The label and what is counted, such as ``"draw"`` and ``"track"``.
    every : float, in seconds
        Interval between plain lines.
    """
    if not _in_command.get():
        yield from iterable
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(iterable, total=total, desc=desc, unit=unit, leave=False)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every and done < total:
            shown = now
            rate = done / (now - start)
            print(f"{desc}: {done} of {total} {unit}s, {rate:.1f} a second", file=sys.stderr, flush=True)
