"""`render.cli`: a mistake ends in one line and the right exit code; progress never spoils a log."""

import io
import os
import subprocess
import sys
import types

import pytest

from render.cli import command, print_notes_and_failures, progress
from render.errors import MelvisionError, ParameterError


def fail(error):
    raise error


def in_command(function):
    """Call a function as a command does: only then is progress shown."""
    results = []
    assert command(lambda argv: results.append(function()) or 0)() == 0
    return results[0]


@pytest.mark.parametrize("code", [0, 1])
def test_what_main_returns_is_the_exit_code(code):
    assert command(lambda argv=None: code)() == code


def test_main_gets_its_arguments_and_keeps_its_name():
    @command
    def main(argv=None):
        """Docstring."""
        return len(argv)

    assert main(["a", "b"]) == 2
    assert (main.__name__, main.__doc__) == ("main", "Docstring.")


@pytest.mark.parametrize(
    "error, code, line",
    [
        (MelvisionError("genres/: there is no such folder"), 2, "error: genres/: there is no such folder\n"),
        (ParameterError("n_fft", 0, "from 16"), 2, "error: --n-fft 0: expected from 16\n"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept\n"),
    ],
    ids=["MelvisionError", "ParameterError", "KeyboardInterrupt"],
)
def test_expected_ends_are_one_line(capsys, error, code, line):
    assert command(lambda argv=None: fail(error))() == code
    captured = capsys.readouterr()
    assert captured.err == line
    assert captured.out == ""


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        command(lambda argv=None: 1 // 0)()


def run_python(lines, **kwargs):
    program = "import sys\nfrom render.cli import *\n" + lines + "\nsys.exit(command(main)())\n"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def test_a_reader_that_left_is_no_error():
    process = run_python("def main(argv):\n    while True: print('line')")
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 141
    assert errors == ""


def test_names_the_terminal_cannot_show_are_escaped():
    process = run_python(
        "def main(argv):\n    print('\\N{GUITAR}')\n    raise MelvisionError('\\udcff.wav: \\xfc')",
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
    )
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert out == "\\U0001f3b8\n"
    assert err == "error: \\udcff.wav: \\xfc\n"


def test_progress_in_a_log_is_plain_lines(capsys):
    items = in_command(lambda: list(progress(iter("abc"), total=3, desc="render", unit="track", every=0)))
    assert items == ["a", "b", "c"]
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()  # none for the last: the summary follows
    assert first.startswith("render: 1 of 3 tracks, ")
    assert second.startswith("render: 2 of 3 tracks, ")
    assert "\r" not in captured.err
    assert captured.out == ""


def test_progress_in_a_log_waits_between_lines(capsys, monkeypatch):
    clock = iter(range(1000))  # a second an item
    monkeypatch.setattr("render.cli.time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert len(in_command(lambda: list(progress(range(100), total=100, desc="render", unit="track", every=30)))) == 100
    assert capsys.readouterr().err.splitlines() == [
        f"render: {done} of 100 tracks, 1.0 a second" for done in (30, 60, 90)
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    how = {"total": 5, "desc": "render", "unit": "track"}
    assert in_command(lambda: list(progress(range(5), **how))) == list(range(5))
    assert "render" in terminal.getvalue()
    assert "\r" in terminal.getvalue()
    shown = len(terminal.getvalue())
    assert list(progress(range(5), **how)) == list(range(5))
    assert len(terminal.getvalue()) == shown, "the library is silent"


@pytest.mark.parametrize("total", [0, 5])
def test_progress_over_nothing(capsys, total):
    assert in_command(lambda: list(progress([], total=total, desc="render", unit="track", every=0))) == []
    assert capsys.readouterr().err == ""


def test_notes_come_before_failures_a_line_each(capsys):
    print_notes_and_failures(["a\nb: is silent"], [MelvisionError("c: is damaged")])
    captured = capsys.readouterr()
    assert captured.err == "note: a\\nb: is silent\nfailed: c: is damaged\n"
    assert captured.out == ""
