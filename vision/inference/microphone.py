"""Sound from a microphone, with sounddevice (extra ``live``)."""

import queue
from collections.abc import Iterator

import numpy as np

from render.errors import MelvisionError, ParameterError

#: Seconds without a sample after which a microphone is taken for disconnected.
TIMEOUT = 5.0


def _import_sounddevice():
    try:
        import sounddevice
    except ImportError:
        raise MelvisionError('sounddevice is not installed; pip install -e ".[live]"') from None
    except OSError as error:
        raise MelvisionError(
            f"sounddevice: {error}; install PortAudio (Debian, Ubuntu: apt install libportaudio2)"
        ) from None
    return sounddevice


def open_microphone(name: str | None = None) -> tuple[int, Iterator[np.ndarray]]:
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
        Blocks of a second; longer when more was recorded meanwhile, so that a slow computer does not lag behind.

    Raises
    ------
    MelvisionError
        When sounddevice, PortAudio or the microphone is missing.
    """
    sounddevice = _import_sounddevice()
    device = int(name) if name and name.isdecimal() else name
    try:
        sr = round(sounddevice.query_devices(device, "input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        if name:
            expected = f"a microphone that python -m sounddevice lists ({error})"
            raise ParameterError("input", name, expected) from None
        raise MelvisionError(f"no microphone found ({error}); python -m sounddevice lists what there is") from None
    return sr, _record(sounddevice, device, sr)


def _record(sounddevice, device, sr):
    recorded = queue.SimpleQueue()

    def callback(data, n_frames, when, status):
        recorded.put(data.copy())  # PortAudio reuses its memory

    try:
        with sounddevice.InputStream(device=device, channels=1, samplerate=sr, dtype="float32", callback=callback):
            while True:
                parts, n = [], 0
                while n < sr:
                    parts.append(recorded.get(timeout=TIMEOUT))
                    n += len(parts[-1])
                yield np.concatenate(parts + [recorded.get() for _ in range(recorded.qsize())])
    except queue.Empty:
        raise MelvisionError(f"the microphone sent nothing for {TIMEOUT:g} s; is it still connected?") from None
    except sounddevice.PortAudioError as error:
        raise MelvisionError(f"the microphone cannot be used ({error}); another program may be using it") from None
