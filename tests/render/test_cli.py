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


HOSTILE = "\x1b[31mred\x1b[0m\r\x9b2J\u202egenre"


def test_control_characters_are_printed_as_escapes(capsys):
    @command
    def main(argv=None):
        print(f"a table\tof {HOSTILE}\nand more")
        print(HOSTILE, file=sys.stderr)
        raise MelvisionError(HOSTILE + "\n")

    assert main() == 2
    out, err = capsys.readouterr()
    assert out == "a table\tof " + HOSTILE.encode("unicode_escape").decode() + "\nand more\n"
    for text in (out, err):
        assert not set(HOSTILE) & {"\x1b", "\r", "\x9b", "\u202e"} & set(text)
    assert len(err.splitlines()) == 2


def test_names_of_all_languages_are_printed_as_they_are(capsys):
    names = "Forr\xf3 \u65e5\u672c\u8a9e \u05e9\u05dc\u05d5\u05dd \U0001f3b8"
    assert command(lambda argv: print(names) or 0)() == 0
    assert capsys.readouterr().out == names + "\n"


SCRIPT = """
import sys
{before}
from render.cli import command
@command
def main(argv=None):
    print("printed")
    print("told", file=sys.stderr)
    open(sys.argv[1], "w").write("done")
    return 0
sys.exit(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize("streams", ["2>&-", "1>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "None"])
def test_without_standard_streams_the_work_is_done(tmp_path, streams):
    out = tmp_path / "done.txt"
    before = "sys.stdout = sys.stderr = None" if streams == "None" else ""
    (tmp_path / "script.py").write_text(SCRIPT.format(before=before))
    shell = f"{sys.executable} {tmp_path / 'script.py'} {out} {'' if streams == 'None' else streams}"
    done = subprocess.run(shell, shell=True, env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True)
    assert (done.returncode, out.read_text()) == (0, "done")
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(before=""))
    shell = f"{sys.executable} {tmp_path / 'script.py'} {tmp_path / 'done.txt'} > /dev/full"
    done = subprocess.run(shell, shell=True, env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"error: standard output: ") and b"Traceback" not in done.stderr
