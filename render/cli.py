"""What the command lines of both packages share: how to fail and how to show progress."""

import functools
import os
import re
import sys
import time

from render.errors import MelvisionError, ParameterError


def one_line(text):
    """`text` with its line breaks and other control characters shown as escapes: file names may hold any."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], str(text))


def command(main):
    """Decorate a ``main(argv=None) -> int`` so that a user's mistake ends in one line.

    Exit codes: what `main` returns (0 done, 1 done with failures listed), 2 for an `MelvisionError` or a
    path that cannot be read or written, 130 after Ctrl-C and 141 when the reader of a pipe has gone,
    as shells do.
    """

    @functools.wraps(main)
    def wrapped(argv=None):
        # A file name may hold bytes that are no text in this terminal's encoding: show them as
        # escapes instead of dying over a message.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
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
            # The reader (`| head`) has gone; point stdout at nothing so that exit does not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
            return 2

    return wrapped


def progress(iterable, *, total, desc, unit, every=10.0):
    """Yield from `iterable`, showing how far it is.

    A tqdm bar on a terminal; elsewhere (a log file, CI) one plain line every `every` seconds.

    Parameters
    ----------
    iterable : iterable
        What to go through.
    total : int
        How many items it has.
    desc, unit : str
        What is being done, and to what ("track" is shown as tracks a second).
    every : float, in seconds
        How often the plain line appears.
    """
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
