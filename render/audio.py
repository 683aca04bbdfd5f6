"""Decode audio files to mono float32 at one sampling rate, in pieces."""

import contextlib
import hashlib
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NoReturn

import numpy as np

from render import sniff
from render.errors import AudioError
from render.formats import FFMPEG_ENDINGS, FFMPEG_FORMATS

#: Samples decoded at a time, over all channels (4 MiB as float32).
BLOCK_SAMPLES = 1 << 20

#: A signal that never exceeds this holds nothing: -80 dB below full scale, three steps of 16-bit samples. What a codec
#: or dither leaves of silence is below it.
SILENT_PEAK = 1e-4

#: Channels whose mean holds less than this share of their power cancel each other: two with a correlation below -0.9.
#: Unrelated channels keep a half. A codec's noise, unlike in both, may be a hundredth.
CANCELLED = 0.05


def content_hash(path: str | Path) -> str:
    """Return the SHA-1 of a file's bytes in 40 hexadecimal digits, to detect changes of the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _check_size(path: Path) -> None:
    size, declared = path.stat().st_size, sniff.declared_size(path)
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
            if self._inside == 0 and sys.stderr is not None:  # None: a program without a terminal
                sys.stderr.flush()
                self._saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved >= 0:
                os.dup2(self._saved, 2)
                os.close(self._saved)
                self._saved = -1


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


#: Formats that do not tell their length: ffmpeg's is an estimate.
_NO_LENGTH = {"aac", "ac3", "amr", "mp3", "ogg", "flac", "wav"}


#: What ffmpeg prints where one recording ends and the next begins; it reads on.
_AT_A_JOINT = re.compile("non monotonically increasing dts|Header missing|Error while decoding|Error submitting packet")


def _ffmpeg_messages(errors: BinaryIO) -> tuple[list[str], float | None, bool]:
    """Return what ffmpeg printed: (errors, declared seconds or None, whether the file holds moving pictures)."""
    errors.seek(0)
    lines = errors.read(1 << 20).decode(errors="replace").strip().splitlines()
    complaints = [match[1] for line in lines if (match := re.match(r"(?:\[[^]]*\] )*\[(?:error|fatal)\] (.*)", line))]
    durations = [re.match(r"\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+),", line) for line in lines]
    seconds = [int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) for match in durations if match]
    if any("Estimating duration from bitrate" in line for line in lines):
        seconds = []
    video = any(re.match(r"\[info\]   Stream #.*: Video: ", line) and "attached pic" not in line for line in lines)
    plain = [line for line in lines if not re.match(r"(\[[^]]*\] )*\[(info|warning)\]", line)]
    return complaints or plain, seconds[0] if seconds else None, video


#: Arguments that make ffmpeg write floats behind the header of an AU file.
_AS_FLOATS = ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]


def _read_au_header(stdout: IO[bytes]) -> tuple[int, int] | None:
    """Return the sampling rate and the number of channels; None where ffmpeg wrote no header."""
    # Magic number, offset of the data, its length, encoding, sampling rate, channels.
    head = stdout.read(24)
    if len(head) < 24 or head[:4] != b".snd":
        return None
    data_offset, _, _, sr, channels = struct.unpack(">5I", head[4:])
    stdout.read(data_offset - 24)
    return sr, channels


def _floats(stdout: IO[bytes], size: int, channels: int) -> Iterator[np.ndarray]:
    """Yield what ffmpeg writes behind that header: blocks (n, channels) of `size` bytes."""
    while data := stdout.read(size):
        usable = len(data) - len(data) % (4 * channels)
        yield np.frombuffer(data[:usable], ">f4").astype(np.float32).reshape(-1, channels)


def decode_stream(file: BinaryIO, head: bytes, kind: str) -> tuple[int, Iterator[np.ndarray]]:
    """Decode a stream of a container format with the ffmpeg program, while it arrives.

    Parameters
    ----------
    file : binary file
        Read in order, without seeking.
    head : bytes
        What was read from it already.
    kind : str
        ffmpeg's name of the format, from `sniff.stream_format`.

    Returns
    -------
    sr : int, in Hz
        Sampling rate.
    blocks : iterator of np.ndarray, shape (n, channels), float32
        Of one second; the last may be shorter.

    Raises
    ------
    AudioError
        When ffmpeg is missing or cannot decode it; the message says why, without the stream's name.
    """
    if shutil.which("ffmpeg") is None:
        raise AudioError(f"is {kind}, which needs the ffmpeg program; install it, or send WAV")
    call = ["ffmpeg", "-hide_banner", "-nostats", "-v", "level+error", "-protocol_whitelist", "pipe"]
    call += ["-f", kind, "-i", "pipe:0", "-map", "0:a:0", *_AS_FLOATS]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None

    def feed() -> None:
        # What arrives is passed on at once; read() would wait for a full buffer.
        read = getattr(file, "read1", file.read)
        with contextlib.suppress(OSError, ValueError), stdin:  # ffmpeg may end before its input does
            stdin.write(head)
            while data := read(1 << 16):
                stdin.write(data)
                stdin.flush()

    threading.Thread(target=feed, daemon=True).start()

    def fail() -> NoReturn:
        process.kill()
        process.wait()
        lines = _ffmpeg_messages(errors)[0]
        raise AudioError(f"is {kind} and cannot be decoded (ffmpeg: {lines[-1] if lines else 'no audio in it'})")

    header = _read_au_header(stdout)
    if header is None:
        fail()
    sr, channels = header

    def blocks() -> Iterator[np.ndarray]:
        try:
            yield from _floats(stdout, sr * channels * 4, channels)
            if process.wait() != 0:
                fail()
        finally:
            process.kill()
            stdout.close()
            process.wait()
            errors.close()

    return sr, blocks()


def _ffmpeg_blocks(
    path: Path, offset: float, duration: float | None, content: sniff.Content, notes: list[str]
) -> tuple[int, Iterator[np.ndarray]]:
    """Decode with the ffmpeg program; returns the sampling rate and a generator of blocks (n, channels)."""
    if shutil.which("ffmpeg") is None:
        usual = path.suffix.lower() in FFMPEG_ENDINGS
        kind = path.suffix if usual else f"the content ({content.format}, whatever its name)"
        raise AudioError(f"cannot be decoded: {kind} needs the ffmpeg program; install it or convert to .wav")
    part = ["-ss", str(offset)] if offset else []
    part += ["-t", str(duration)] if duration is not None else []
    # "file:" and the whitelists: neither the name nor a playlist in the file may make ffmpeg open anything else.
    call = ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-v", "level+info", "-protocol_whitelist", "file,pipe"]
    call += ["-format_whitelist", content.format or FFMPEG_FORMATS]
    call += ["-f", content.format] if content.format else []
    # Where the length is not known, ffmpeg cannot jump; behind "-i" it decodes what comes before and drops it.
    call += [] if content.incomplete else part
    call += ["-i", f"file:{path}", "-map", "0:a:0"]
    call += part if content.incomplete else []
    call += _AS_FLOATS
    # Not a pipe: nobody reads it while decoding, and a full pipe would block ffmpeg for ever.
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
    process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    stdout = process.stdout
    assert stdout is not None

    def fail() -> NoReturn:
        stdout.close()
        process.wait()
        lines = _ffmpeg_messages(errors)[0]
        raise AudioError(f"cannot be decoded (ffmpeg: {lines[-1] if lines else 'no audio in it'})")

    def check_end(seconds: float) -> None:
        complaints, declared, video = _ffmpeg_messages(errors)
        if content.incomplete:
            complaints = [line for line in complaints if not _AT_A_JOINT.search(line)]
        if content.format in _NO_LENGTH:
            declared = None
        wanted = min(declared - offset, duration or declared) if declared else 0
        if seconds < 0.95 * wanted - 0.1:
            decoded = f"{seconds:.1f} s of {wanted:.1f} s could be decoded"
            if complaints or not video:
                raise AudioError(f"is truncated: {decoded}; copy it again")
            notes.append(f"its sound ends early: {decoded}")
        elif complaints:
            line = complaints[-1].replace(f"file:{path}", "the file")
            notes.append(f"is damaged or cut off: parts may be missing (ffmpeg: {line})")

    header = _read_au_header(stdout)
    if header is None:
        fail()
    sr, channels = header

    def blocks() -> Iterator[np.ndarray]:
        n_bytes = 0
        try:
            size = max(1, BLOCK_SAMPLES // channels) * channels * 4
            for block in _floats(stdout, size, channels):
                n_bytes += block.nbytes
                yield block
            if process.wait() != 0:
                fail()
            if n_bytes:
                check_end(n_bytes / (4 * channels * sr))
        finally:
            process.kill()
            stdout.close()
            process.wait()
            errors.close()

    return sr, blocks()


def _open(path: Path, offset: float, duration: float | None, notes: list[str]) -> tuple[int, Iterator[np.ndarray]]:
    """Open with the decoder that reads all of this content, whatever the name; returns as the decoders."""
    content = sniff.sniff(path)
    if content.note:
        notes.append(content.note)
    # Content of no known kind is left to the decoder of its ending.
    if content.only_ffmpeg or (not content.format and path.suffix.lower() in FFMPEG_ENDINGS):
        return _ffmpeg_blocks(path, offset, duration, content, notes)
    if content.incomplete and shutil.which("ffmpeg"):
        return _ffmpeg_blocks(path, offset, duration, content, notes)
    try:
        opened = _sndfile_blocks(path, offset, duration)
    except AudioError as error:
        if not content.format:
            raise
        if not shutil.which("ffmpeg"):
            raise AudioError(f"{error}; the ffmpeg program may read it: install it or convert to .wav") from None
        try:
            return _ffmpeg_blocks(path, offset, duration, content, notes)
        except AudioError:
            raise error from None
    if content.incomplete:
        why = f"{content.incomplete}; install the ffmpeg program, which reads all of it"
        notes.append(f"may have been read in part: {why}")
        return opened[0], _explain_errors(opened[1], why)
    return opened


def _explain_errors(blocks: Iterator[np.ndarray], why: str) -> Iterator[np.ndarray]:
    try:
        yield from blocks
    except AudioError:
        raise AudioError(f"cannot be decoded: {why}") from None


def decode(
    path: str | Path,
    *,
    sr: int,
    offset: float = 0.0,
    duration: float | None = None,
    notes: list[str] | None = None,
    highest: float | None = None,
) -> Iterator[np.ndarray]:
    """Decode one file to mono at `sr`, piece by piece, so that long files fit in memory.

    Channels are averaged and the signal is resampled with soxr at high quality, as `librosa.load` does.

    Parameters
    ----------
    path : str or Path
        Its content says which decoder reads it, and not its name: libsndfile, or ffmpeg for other formats and for
        those of which libsndfile would read a part.
    sr : int, in Hz
        Sampling rate of the result.
    offset, duration : float, in seconds
        The part to decode; a `duration` of None is up to the end.
    notes : list of str, optional
        Gets a line for each thing that a listener should know, such as damage, until the last piece is yielded.
    highest : float, in Hz, optional
        The highest frequency that matters: a note says where the file's sampling rate does not reach it.

    Yields
    ------
    y : np.ndarray, shape (n,), float32
        Consecutive pieces of the signal.

    Raises
    ------
    AudioError
        When the file is missing, empty, truncated, cannot be decoded, or holds NaN or infinity.
    """
    path, notes = Path(path), [] if notes is None else notes
    try:
        if path.stat().st_size == 0:
            raise AudioError("is empty (0 bytes)")
        _check_size(path)
        source_sr, blocks = _open(path, offset, duration, notes)
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror or error})") from None
    if highest and source_sr < 1.8 * highest:  # filters end a little below half the sampling rate
        reach = f"holds nothing above {source_sr / 2000:g} kHz, because its sampling rate is {source_sr} Hz"
        notes.append(f"{reach}; what is compared with it may reach {highest / 1000:g} kHz")
    yield from to_mono(blocks, source_sr, sr, offset=offset, notes=notes)


def peak(y: np.ndarray) -> float:
    """Return the largest magnitude of samples, (n,); 0 where there are none."""
    # Two passes without a copy of them, as abs() would make.
    return float(max(y.max(), -y.min())) if len(y) else 0.0


def first_not_finite(y: np.ndarray) -> int | None:
    """Return the position of the first NaN or infinity in samples, (n,); None where there is none."""
    # A sum of squares that is finite has finite terms only, and takes a single pass.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(y @ y)
    if math.isfinite(total):
        return None
    finite = np.isfinite(y)
    return None if finite.all() else int(finite.argmin())


class _Mixer:
    """The mean of channels, or one of them where they have cancelled each other so far."""

    def __init__(self, sr: int):
        self._least = sr // 10  # too few samples tell nothing
        self._power = np.zeros(1)
        self._mixed = 0.0
        self._n = self.n_cancelled = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if block.shape[1] == 1:
            return block[:, 0]
        y = block.mean(axis=1)
        self._power = self._power + np.array([float(channel @ channel) for channel in block.T])
        self._mixed += float(y @ y)
        self._n += len(y)
        power = self._power
        # Where a sample is NaN nothing is less than another: `to_mono` reports it.
        if not (self._n >= self._least and self._mixed < CANCELLED * power.mean()):
            return y
        if not power.max() > self._n * SILENT_PEAK**2:
            return y
        self.n_cancelled += len(y)
        # The first channel that is about as loud as the loudest.
        return block[:, int((power > power.max() / 2).argmax())]


def to_mono(
    blocks: Iterable[np.ndarray], source_sr: int, sr: int, *, offset: float = 0.0, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Average the channels and resample, block by block.

    Where channels cancel each other, as with inverted phase, one of them is used in place of their mean.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n, channels), float32
        Consecutive pieces of the signal.
    source_sr, sr : int, in Hz
        Sampling rates of the blocks and of the result.
    offset : float, in seconds
        Where in the track the first block starts, for error messages.
    notes : list of str, optional
        Gets a line at the end where channels cancelled each other.

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
    mix = _Mixer(source_sr)
    n_in = n_out = 0
    for block in blocks:
        y = mix(block)
        if (at := first_not_finite(y)) is not None:
            raise AudioError(f"holds NaN or infinity, first at {(n_in + at) / source_sr + offset:.3f} s")
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
    if mix.n_cancelled and notes is not None:
        part = "" if mix.n_cancelled == n_in else f" in {mix.n_cancelled / source_sr:.1f} of {n_in / source_sr:.1f} s"
        notes.append(f"its channels cancel each other in mono{part} (inverted phase); one of them was used alone")
    if n_in == 0:
        raise AudioError("holds no samples" + (f" after the offset of {offset:g} s" if offset else ""))
