"""What all commands share: exit codes, one-line errors, notes, failures and progress."""

import contextlib
import functools
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

from render.atomic import DISK_FULL
from render.errors import MelvisionError, ParameterError

Item = TypeVar("Item")

#: Whether a command is running: the same functions, called by a Python program, show no progress.
_in_command = ContextVar("in_command", default=False)


#: Control characters, line breaks, and marks that turn the direction of writing: a name may hold any, and on a terminal
#: they would colour, move or hide what is printed.
_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"


def plural(n: int, one: str, many: str = "") -> str:
    """Return ``"1 picture"``, ``"2 pictures"`` and so on; `many` is said where a letter s at the end will not do."""
    return f"{n} {one}" if n == 1 else f"{n} {many or one + 's'}"


class EscapingStream:
    """A text stream that prints control characters, other than tab and the end of a line, as escapes.

    Parameters
    ----------
    stream : text file
        What is written to.
    title : str
        What to call it in the message of an OSError.
    """

    def __init__(self, stream: TextIO, title: str):
        self.stream, self._title = stream, title

    def write(self, text: str) -> int:
        """Write `text`, escaped."""
        with self._named():
            return self.stream.write(re.sub(f"[{_CONTROLS}]", _escape, text))

    def flush(self) -> None:
        """Write what is buffered."""
        with self._named():
            self.stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of the same kind: OSError makes a BrokenPipeError of its number
            raise OSError(error.errno, error.strerror, self._title) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _escape(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode()


def _open_missing_streams() -> None:
    """Open what a daemon or pythonw has closed, so that no file is opened under the numbers of standard streams."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one


@contextlib.contextmanager
def _printable_streams() -> Iterator[None]:
    """While a command runs, print what a terminal can show; without standard streams, print to nowhere."""
    _open_missing_streams()
    before = sys.stdout, sys.stderr
    streams = ("stdout", sys.stdout, "standard output"), ("stderr", sys.stderr, "standard error")
    for name, stream, title in streams:
        if stream is None or stream.closed:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
        # A name may hold bytes that this terminal cannot show: escaped, too, and no UnicodeEncodeError.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, EscapingStream(stream, title))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def one_line(text: object) -> str:
    """Return `text` with line breaks and other control characters escaped: file names may hold any."""
    return re.sub(rf"[\t\n{_CONTROLS}]", _escape, str(text))


def ignore_pillow_warnings() -> None:
    """Keep Pillow's warnings, and the paths of its source in them, from the user of a command.

    They are of many pixels, damaged EXIF data and cut files: `png.open_picture` and `png.load_pixels` refuse these in
    one line, or take them as they are.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Decorate a ``main(argv=None) -> int`` so that a user's mistake is reported in one line.

    Exit codes: what `main` returns (0 done, 1 done with failures listed), 2 for a `MelvisionError` or a
    path that cannot be read or written, 130 after Ctrl-C and 141 when the reader of a pipe has gone,
    as in shells.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        ignore_pillow_warnings()
        with _printable_streams():
            return run(argv)

    def run(argv: Sequence[str] | None) -> int:
        outside = _in_command.set(True)
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except MelvisionError as error:
            message = error.as_flag() if isinstance(error, ParameterError) else error
            print(f"error: {one_line(message)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            how = f"; {one_line(stop.args[0])}" if stop.args else ""
            print(f"interrupted; what was finished is kept{how}", file=sys.stderr)
            return 130
        except BrokenPipeError:
            _give_up_stdout()  # the reader (`| head`) has gone
            return 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            if error.filename == "standard output":  # a full disk, say
                _give_up_stdout()
            todo = "; free some space and run the same command again" if error.errno in DISK_FULL else ""
            print(f"error: {where}{error.strerror or error}{todo}", file=sys.stderr)
            return 2
        finally:
            _in_command.reset(outside)

    return wrapped


def _give_up_stdout() -> None:
    """Point standard output at nowhere, so that Python's own flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


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

        # Straight to the terminal: a bar is drawn with control characters.
        terminal = getattr(sys.stderr, "stream", sys.stderr)
        yield from tqdm(iterable, total=total, desc=desc, unit=unit, leave=False, file=terminal)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every and done < total:
            shown = now
            rate = done / (now - start)
            print(f"{desc}: {done} of {total} {unit}s, {rate:.1f} a second", file=sys.stderr, flush=True)
