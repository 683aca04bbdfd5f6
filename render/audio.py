"""Decode audio files to mono float32 at one sampling rate, in pieces."""

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from render.errors import AudioError
from render.formats import FFMPEG_ENDINGS, FFMPEG_FORMATS

#: Samples decoded at a time, over all channels (4 MiB as float32).
BLOCK_SAMPLES = 1 << 20


def content_hash(path: str | Path) -> str:
    """Return the SHA-1 of a file's bytes in 40 hexadecimal digits, to detect changes of the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _declared_size(path: Path) -> int | None:
    """Return the size in bytes that the header declares, or None if it does not.

    libsndfile reads a truncated WAV, AU or AIFF file as if it were merely shorter.
    """
    with open(path, "rb") as file:
        head = file.read(12)
    if len(head) < 12:
        return None
    if head[:4] == b"RIFF":
        size = struct.unpack("<I", head[4:8])[0]
    elif head[:4] == b"FORM":
        size = struct.unpack(">I", head[4:8])[0]
    elif head[:4] == b".snd":
        offset, data = struct.unpack(">II", head[4:12])
        # Programs that write to a pipe put 0, or all ones or nearly so, where the size belongs.
        return offset + data if 0 < data < 0x7FFFF000 else None
    else:
        return None
    return size + 8 if 0 < size < 0x7FFFF000 else None


def _check_size(path: Path) -> None:
    size, declared = path.stat().st_size, _declared_size(path)
    # Headers that are wrong by a few bytes are common and harmless.
    if declared and declared - size > max(4096, declared // 100):
        raise AudioError(f"is truncated: its header declares {declared} bytes, the file has {size}; copy it again")


class _StderrSilencer:
    """Keep the MP3 library from printing to stderr; errors are raised instead.

    Several threads may read files while the process has one stderr: the first thread to enter redirects it, the last
    to leave restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                sys.stderr.flush()
                self._saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._saved, 2)
                os.close(self._saved)


_silence_stderr = _StderrSilencer()


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", str(error)).strip().rstrip(".")
    # libsndfile says so of MP3s that it cannot parse; the file exists.
    return "unknown format or damaged" if text.startswith("File does not exist") else text


def _sndfile_blocks(path: Path, offset: float, duration: float | None) -> tuple[int, Iterator[np.ndarray]]:
    """Open with libsndfile; returns the sampling rate and a generator of blocks (n, channels)."""
    import soundfile

    try:
        # As bytes, because soundfile cannot encode a name that is not valid UTF-8.
        with _silence_stderr:  # whatever the ending: a WAV file may contain MP3
            file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise AudioError(f"cannot be decoded ({_reason(error)})") from None
    if file.format == "RAW":
        # libsndfile reads any .au or .snd file without a header as raw telephone audio.
        file.close()
        raise AudioError("cannot be decoded (no header: not audio, or damaged)")
    sr = file.samplerate
    # Only the MP3 library prints while it decodes; what other threads print meanwhile would be lost.
    silence = _silence_stderr if file.subtype.startswith("MPEG") else contextlib.nullcontext()

    def blocks() -> Iterator[np.ndarray]:
        with file:
            try:
                start = min(round(offset * sr), file.frames)
                if start:
                    file.seek(start)
                n_frames = file.frames - start
                if duration is not None:
                    n_frames = min(n_frames, round(duration * sr))
                size = max(1, BLOCK_SAMPLES // file.channels)
                done = 0
                while done < n_frames:
                    with silence:
                        block = file.read(min(size, n_frames - done), dtype="float32", always_2d=True)
                    if len(block) == 0:
                        break
                    done += len(block)
                    yield block
            except (soundfile.SoundFileError, ValueError) as error:
                raise AudioError(f"is damaged ({_reason(error)})") from None
            # A compressed file declares its length but ends where its data ends. The length of an MP3 without
            # a length header is an estimate, a little wrong.
            if done < 0.95 * n_frames:
                decoded = f"{done / sr:.1f} s of {n_frames / sr:.1f} s could be decoded"
                raise AudioError(f"is truncated: {decoded}; copy it again")

    return sr, blocks()


def _ffmpeg_blocks(path: Path, offset: float, duration: float | None) -> tuple[int, Iterator[np.ndarray]]:
    """Decode with the ffmpeg program; returns the sampling rate and a generator of blocks (n, channels)."""
    if shutil.which("ffmpeg") is None:
        raise AudioError(f"cannot be decoded: {path.suffix} needs the ffmpeg program; install it or convert to .wav")
    # "file:" and the whitelists: neither the name nor a playlist in the file may make ffmpeg open anything else.
    call = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    call += ["-format_whitelist", FFMPEG_FORMATS]
    call += ["-ss", str(offset)] if offset else []
    call += ["-t", str(duration)] if duration is not None else []
    call += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    # Not a pipe: nobody reads it while decoding, and a full pipe would block ffmpeg for ever.
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
    process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    stdout = process.stdout
    assert stdout is not None

    def fail() -> NoReturn:
        stdout.close()
        process.wait()
        errors.seek(0)
        lines = errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        raise AudioError(f"cannot be decoded (ffmpeg: {lines[-1] if lines else 'no audio in it'})")

    # The AU header: magic number, offset of the data, its length, encoding, sampling rate, channels.
    head = stdout.read(24)
    if len(head) < 24 or head[:4] != b".snd":
        fail()
    data_offset, _, _, sr, channels = struct.unpack(">5I", head[4:])
    stdout.read(data_offset - 24)

    def blocks() -> Iterator[np.ndarray]:
        try:
            size = max(1, BLOCK_SAMPLES // channels) * channels * 4
            while data := stdout.read(size):
                usable = len(data) - len(data) % (4 * channels)
                yield np.frombuffer(data[:usable], ">f4").astype(np.float32).reshape(-1, channels)
            if process.wait() != 0:
                fail()
        finally:
            process.kill()
            stdout.close()
            process.wait()
            errors.close()

    return sr, blocks()


def decode(path: str | Path, *, sr: int, offset: float = 0.0, duration: float | None = None) -> Iterator[np.ndarray]:
    """Decode one file to mono at `sr`, piece by piece, so that long files fit in memory.

    Channels are averaged and the signal is resampled with soxr at high quality, as `librosa.load` does.

    Parameters
    ----------
    path : str or Path
        Any format that libsndfile reads; other formats are decoded by ffmpeg.
    sr : int, in Hz
        Sampling rate of the result.
    offset, duration : float, in seconds
        The part to decode; a `duration` of None is up to the end.

    Yields
    ------
    y : np.ndarray, shape (n,), float32
        Consecutive pieces of the signal.

    Raises
    ------
    AudioError
        When the file is missing, empty, truncated, cannot be decoded, or holds NaN or infinity.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise AudioError("is empty (0 bytes)")
        _check_size(path)
        opener = _ffmpeg_blocks if path.suffix.lower() in FFMPEG_ENDINGS else _sndfile_blocks
        source_sr, blocks = opener(path, offset, duration)
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror or error})") from None
    yield from to_mono(blocks, source_sr, sr, offset=offset)


def to_mono(blocks: Iterable[np.ndarray], source_sr: int, sr: int, *, offset: float = 0.0) -> Iterator[np.ndarray]:
    """Average the channels and resample, block by block.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n, channels), float32
        Consecutive pieces of the signal.
    source_sr, sr : int, in Hz
        Sampling rates of the blocks and of the result.
    offset : float, in seconds
        Where in the track the first block starts, for error messages.

    Yields
    ------
    y : np.ndarray, shape (n,), float32
        One piece a block, and another at the end when the signal is resampled.

    Raises
    ------
    AudioError
        When there is no sample, a sample is NaN or infinity, or `source_sr` is out of range.
    """
    if not 1000 <= source_sr <= 768000:
        raise AudioError(f"has a sampling rate of {source_sr} Hz; expected 1000 to 768000")
    stream = None
    if source_sr != sr:
        import soxr

        stream = soxr.ResampleStream(source_sr, sr, 1, dtype="float32", quality="HQ")
    n_in = n_out = 0
    for block in blocks:
        y = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
        finite = np.isfinite(y)
        if not finite.all():
            raise AudioError(f"holds NaN or infinity, first at {(n_in + finite.argmin()) / source_sr + offset:.3f} s")
        n_in += len(y)
        if stream:
            y = stream.resample_chunk(y)
            n_out += len(y)
        yield y
    if stream:
        # The same length as librosa: rounded up, padded with zeros if the resampler returned a sample less.
        n_missing = -(-n_in * sr // source_sr) - n_out
        piece = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:n_missing]
        yield np.pad(piece, (0, n_missing - len(piece)))
    if n_in == 0:
        raise AudioError("holds no samples" + (f" after the offset of {offset:g} s" if offset else ""))
