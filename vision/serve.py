"""Command line: ``python -m vision.serve runs/x``, a web page to drop songs and pictures onto."""

import argparse
import contextlib
import errno
import importlib.util
import os
import sys
from collections.abc import Sequence

from render.cli import command, print_notes_and_failures
from render.errors import MelvisionError, ParameterError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

EPILOG = """\
example: python -m vision.serve runs/standard-001

programs send a form with one file or several, and get a list with an entry a file:
  curl -F file=@song.mp3 -F file=@picture.png http://127.0.0.1:8765/api/predict
  [{"file": "song.mp3", "predicted": "pop", "probabilities": {"pop": 0.91, ...}, "notes": [],
    "length": 182.4, "seconds": 0.2}, {"file": "picture.png", "error": "...", "seconds": 0.001}]
"length" is that of the track in seconds, "seconds" the time that the prediction took. On demand, joined by &:
  ?timeline=true  "timeline": {"times": [[0, 10], [1, 11], ...], "probabilities": {"pop": [...], ...},
                  "segments": [{"start": 0, "end": 182.4, "genre": "pop"}]}
  ?picture=true   "picture": the input of the network, a PNG as a data URI
                  "frequencies": [[0.23, "250 Hz"], ...], from 0 at the bottom to 1 at the top
  ?heat=true      "heat": a PNG that covers what the prediction is not based on; takes many times as long
  ?stream=true    lines of JSON: {"first": {...}} for the first minute of a longer recording, then {"answers": [...]}
A request that is refused gets {"error": "..."} and a status of 400 or more; of 429 and 503 the header Retry-After
says in how many seconds to come again. /openapi.json describes all of it. With --token:
  curl -H "Authorization: Bearer TOKEN" -F file=@song.mp3 http://127.0.0.1:8765/api/predict
  curl http://127.0.0.1:8765/health
  {"status": "ok", "model": "standard-001", "classes": [...], "version": "...", ...}
"""


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.serve",
        description="Serve a web page on this machine: drop a song or a spectrogram picture onto it, or record, and "
        "see the genre, what the prediction is based on, and the genre over time. Uploads are not kept.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    group = parser.add_argument_group("address")
    group.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: "
                       "%(default)s, for this machine only; 0.0.0.0: for everybody who can reach it)")  # fmt: skip
    group.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: %(default)s)")
    group.add_argument("--token", default=os.environ.get("MELVISION_TOKEN", ""), metavar="TEXT", help="answer only "
                       "those who send it; the address that is printed has it (default: MELVISION_TOKEN of the "
                       "environment, or none)")  # fmt: skip
    group = parser.add_argument_group("limits")
    group.add_argument("--max-mb", type=float, default=100, help="largest request, in MB (default: %(default)s)")
    group.add_argument("--max-seconds", type=float, default=3600, help="longest track (default: %(default)s)")
    group.add_argument("--max-per-minute", type=int, default=300, metavar="N", help="predictions that one address may "
                       "ask for in a minute (default: %(default)s)")  # fmt: skip
    add_device_flag(parser.add_argument_group("hardware"))
    return parser


def _check_extra():
    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise MelvisionError(f'vision.serve needs {names}; install the extra: pip install -e ".[web]"')


def _listen(host, port):
    import socket

    try:
        if not 0 <= port < 1 << 16:
            raise OSError("expected 0 to 65535")
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        # Python's own message repeats the address for some errors.
        reason = os.strerror(error.errno) if getattr(error, "errno", None) in errno.errorcode else error
        raise MelvisionError(f"--host {host} --port {port}: {reason}; choose another, such as --port 0") from None


def _read_score(run):
    """Read from metrics.json how good the run is, in a few words; empty where there is none."""
    from pathlib import Path

    from vision.data.validate import read_json
    from vision.models import run_files

    learned = ""
    with contextlib.suppress(ValueError, OSError):
        tracks = run_files.trained_tracks(run)
        learned = f"trained on {len(tracks)} tracks; "
    try:
        if (Path(run) / run_files.SUMMARY).exists():  # of several seeds
            pooled = read_json(Path(run) / run_files.SUMMARY, run_files.SummaryFile, "")["pooled"]
            return f"{learned}correct for {pooled['accuracy']:.0%} of {pooled['n']} other tracks"
        metrics = read_json(Path(run) / run_files.METRICS, run_files.MetricsFile, "")
        if "like" in metrics:
            ((_, scores),), name = metrics["measured"].items(), Path(metrics["like"]).name
            return f"{learned}{name}, of the same settings, was correct for {scores['accuracy']:.0%}"
        split = "test" if "test" in metrics else "dev"
        return f"{learned}correct for {metrics[split]['accuracy']:.0%} of its {metrics[split]['n']} {split} tracks"
    except (ValueError, KeyError):  # the page does without
        return ""


def _host_names():
    """Names by which other machines reach this one; any other name may be an attacker's that resolves to it."""
    import socket

    name, full_name = socket.gethostname().lower(), socket.getfqdn().lower()
    return {name, full_name, name.split(".")[0] + ".local"}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when it is stopped."""
    args = get_parser().parse_args(argv)
    for name in ("max_mb", "max_seconds"):
        if not 0 < getattr(args, name) <= 1e6:
            raise ParameterError(name, f"{getattr(args, name):g}", "above 0 to 1000000")
    if args.max_per_minute < 1:
        raise ParameterError("max_per_minute", args.max_per_minute, "1 or more")
    if not (args.token.isascii() and args.token.isprintable() and " " not in args.token):
        raise ParameterError("token", args.token, "letters, digits and signs without spaces")
    _check_extra()
    import ipaddress
    import socket
    from pathlib import Path
    from urllib.parse import quote

    # Opened first: loading a model takes seconds, in vain if the port is in use.
    with _listen(args.host, args.port) as listener:
        import uvicorn

        from vision.inference.device import keep_freed_memory
        from vision.inference.predictor import Predictor
        from vision.serving.app import create_app

        keep_freed_memory()
        address, port = listener.getsockname()[:2]
        public = not ipaddress.ip_address(address).is_loopback
        app = create_app(
            Predictor(args.run, args.device),
            max_bytes=round(args.max_mb * 1e6),
            max_seconds=args.max_seconds,
            name=Path(args.run).resolve().name.encode(errors="backslashreplace").decode(),
            score=_read_score(args.run),
            token=args.token,
            per_minute=args.max_per_minute,
            hosts={"localhost", args.host.lower()} | (_host_names() if public else set()),
        )
        host = socket.gethostname() if address in ("0.0.0.0", "::") else f"[{address}]" if ":" in address else address
        shown = f"#token={quote(args.token)}" if args.token else ""
        print(f"http://{host}:{port}/{shown}  (Ctrl-C stops it)", flush=True)
        if public and not args.token:
            print_notes_and_failures(["everybody who can reach this machine can use it; --token lets in who has it"])

        class Server(uvicorn.Server):
            def handle_exit(self, sig, frame):
                app.state.stop()  # uvicorn waits for running requests before it shuts the application down
                super().handle_exit(sig, frame)

        server = Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
