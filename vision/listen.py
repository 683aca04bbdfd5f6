"""Command line: ``python -m vision.listen runs/x``."""

import argparse
import os
import queue
import sys

from render.cli import command
from render.errors import MelvisionError
from vision.command_line import add_device_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

#: Seconds without a sample after which a microphone is taken for gone.
PATIENCE = 5.0


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m vision.listen",
        description="Say every second which genre the microphone hears, until Ctrl-C. Needs sounddevice: "
        'pip install -e ".[live]". Nothing is stored.',
        epilog="example: python -m vision.listen runs/standard-001",
    )
    parser.add_argument("run", help="run folder of vision.train, a folder of seeds, or an exported .onnx file")
    parser.add_argument("--input", metavar="NAME", help="microphone, by its name or number in python -m sounddevice")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, with all probabilities")
    add_device_flag(parser)
    return parser


def _sounddevice():
    try:
        import sounddevice
    except ImportError:
        raise MelvisionError('sounddevice is not installed; pip install -e ".[live]"') from None
    except OSError as error:
        raise MelvisionError(
            f"sounddevice: {error}; install PortAudio (Debian, Ubuntu: apt install libportaudio2)"
        ) from None
    return sounddevice


def microphone(name=None):
    """Open a microphone.

    Parameters
    ----------
    name : str, optional
        Part of its name, or its number; by default the system's.

    Returns
    -------
    sr : int, in Hz
        Its own sampling rate.
    blocks : iterator of np.ndarray, shape (n, 1), float32
        A second each; longer where more came meanwhile, so that a slow computer does not lag behind.

    Raises
    ------
    MelvisionError
        When sounddevice, PortAudio or the microphone is missing.
    """
    sounddevice = _sounddevice()
    device = int(name) if name and name.isdecimal() else name
    try:
        sr = round(sounddevice.query_devices(device, "input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        told = f"--input {name}: no such microphone" if name else "no microphone found"
        raise MelvisionError(f"{told} ({error}); python -m sounddevice lists what there is") from None
    return sr, _blocks(sounddevice, device, sr)


def _blocks(sounddevice, device, sr):
    import numpy as np

    heard = queue.SimpleQueue()

    def hear(data, n_frames, when, status):
        heard.put(data.copy())

    try:
        with sounddevice.InputStream(device=device, channels=1, samplerate=sr, dtype="float32", callback=hear):
            while True:
                parts, n = [], 0
                while n < sr:
                    parts.append(heard.get(timeout=PATIENCE))
                    n += len(parts[-1])
                yield np.concatenate(parts + [heard.get() for _ in range(heard.qsize())])
    except queue.Empty:
        raise MelvisionError(f"the microphone gave nothing for {PATIENCE:g} s; is it still there?") from None
    except sounddevice.PortAudioError as error:
        raise MelvisionError(f"the microphone cannot be used ({error}); another program may hold it") from None


@command
def main(argv=None):
    """Run the command; it ends with Ctrl-C."""
    args = get_parser().parse_args(argv)
    from vision.inference.output import show_live
    from vision.inference.predictor import Predictor
    from vision.inference.stream import UNUSABLE, live

    predictor = Predictor(args.run, args.device)
    sr, blocks = microphone(args.input)
    print(f"listening at {sr} Hz; Ctrl-C ends", file=sys.stderr)
    try:
        show_live(live(predictor, blocks, sr), predictor.classes, as_json=args.json)
    except UNUSABLE as error:
        raise MelvisionError(f"the microphone: {error}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
