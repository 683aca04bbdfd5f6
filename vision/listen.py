"""Command line: ``python -m vision.listen runs/x``."""

import argparse
import os
import sys
from collections.abc import Sequence

from render.cli import command
from render.errors import AudioError, MelvisionError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.listen",
        description="Predict the genre of what the microphone records, every second, until Ctrl-C. Nothing is stored. "
        'Needs sounddevice: pip install -e ".[live]".',
        epilog="example: python -m vision.listen runs/standard-001",
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    parser.add_argument("--input", metavar="NAME", help="microphone: its name or number in python -m sounddevice "
                        "(default: the system's)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, with all probabilities")
    add_device_flag(parser.add_argument_group("hardware"))
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; it ends with Ctrl-C."""
    args = get_parser().parse_args(argv)
    from vision.inference.device import keep_freed_memory
    from vision.inference.microphone import open_microphone
    from vision.inference.output import stream_line
    from vision.inference.predictor import Predictor
    from vision.inference.stream import predict_stream

    keep_freed_memory()
    predictor = Predictor(args.run, args.device)
    sr, blocks = open_microphone(args.input)
    print(f"listening at {sr} Hz; Ctrl-C ends", file=sys.stderr)
    try:
        for seconds, p, unlike in predict_stream(predictor, blocks, sr):
            print(stream_line(seconds, p, predictor.classes, unlike=unlike, as_json=args.json), flush=True)
    except AudioError as error:
        raise MelvisionError(f"the microphone: {error}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
