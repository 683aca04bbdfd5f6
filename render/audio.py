"""Decode audio files: mono float32 at one sampling rate, in pieces."""

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from render.errors import AudioError

#: Read by libsndfile, through the soundfile package.
SNDFILE_ENDINGS = frozenset(
    ".wav .wave .au .snd .flac .ogg .oga .opus .mp3 .mp2 .aiff .aif .aifc .caf .w64 .rf64 .voc .sph .nist".split()
    + ".ircam .sf .paf .svx .8svx .avr .pvf .xi .sds".split()
)
#: Read through the ffmpeg program, where there is one.
FFMPEG_ENDINGS = frozenset(
    ".m4a .m4b .mp4 .aac .wma .webm .mka .weba .ape .wv .ac3 .amr .3gp .tta .mpc .alac .dsf".split()
)
#: ffmpeg's names of their formats: no playlists among them.
FFMPEG_FORMATS = "mov,aac,asf,matroska,ape,wv,ac3,eac3,amr,tta,mpc,mpc8,dsf"
AUDIO_ENDINGS = SNDFILE_ENDINGS | FFMPEG_ENDINGS

#: Samples decoded at a time, over all channels (4 MiB as float32).
BLOCK_SAMPLES = 1 << 20


def content_hash(path):
    """A hash of a file's bytes, to tell whether it changed: 40 hexadecimal digits (SHA-1)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _declared_size(path):
    """Bytes the file should have by its own header, or None where that is not told.

    libsndfile reads a WAV, AU or AIFF file that was cut off as if it were merely shorter.
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
        # Zero and all ones (and the sizes next to it) are what programs write that stream.
        return offset + data if 0 < data < 0x7FFFF000 else None
    else:
        return None
    return size + 8 if 0 < size < 0x7FFFF000 else None


def _check_whole(path):
    size, declared = path.stat().st_size, _declared_size(path)
    # Headers that are off by a few bytes are common and harmless.
    if declared and declared - size > max(4096, declared // 100):
        raise AudioError(f"is truncated: its header promises {declared} bytes, the file has {size}; copy it again")


class _Quiet:
    """Keep the MP3 library from printing to stderr by itself; what is wrong is told in one line.

    Files are read in threads too, and there is one stderr: the first that comes redirects it, the last
    that leaves brings it back.
    """

    def __init__(self):
        self._lock, self._inside, self._saved = threading.Lock(), 0, -1

    def __enter__(self):
        with self._lock:
            if self._inside == 0:
                sys.stderr.flush()
                self._saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            self._inside += 1

    def __exit__(self, *error):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._saved, 2)
                os.close(self._saved)


_quiet = _Quiet()


def _reason(error):
    told = getattr(error, "error_string", str(error)).strip().rstrip(".")
    # libsndfile's word for MP3s it cannot make sense of; the file is there.
    return "unknown format or damaged" if told.startswith("File does not exist") else told


def _sndfile_blocks(path, offset, duration):
    """Open with libsndfile; returns (sampling rate, generator of blocks (n, channels))."""
    import soundfile

    try:
        # Bytes, because a name that is not valid UTF-8 cannot be encoded the way soundfile does it.
        with _quiet:  # whatever its ending: an MP3 may lie in a WAV
            file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise AudioError(f"cannot be decoded ({_reason(error)})") from None
    if file.format == "RAW":
        # libsndfile takes any .au or .snd without a header for raw telephone sound.
        file.close()
        raise AudioError("cannot be decoded (no header: not audio, or damaged)")
    sr = file.samplerate
    # Only its library prints while it decodes, and what others say meanwhile would be lost.
    quiet = _quiet if file.subtype.startswith("MPEG") else contextlib.nullcontext()

    def blocks():
        with file:
            try:
                start = min(round(offset * sr), file.frames)
                if start:
                    file.seek(start)
                wanted = file.frames - start
                if duration is not None:
                    wanted = min(wanted, round(duration * sr))
                size = max(1, BLOCK_SAMPLES // file.channels)
                done = 0
                while done < wanted:
                    with quiet:
                        block = file.read(min(size, wanted - done), dtype="float32", always_2d=True)
                    if len(block) == 0:
                        break
                    done += len(block)
                    yield block
            except (soundfile.SoundFileError, ValueError) as error:
                raise AudioError(f"is damaged ({_reason(error)})") from None
            # Compressed formats tell their length but end where the data ends. MP3s without a
            # length header are estimated, a little off.
            if done < 0.95 * wanted:
                found = f"{done / sr:.1f} s of {wanted / sr:.1f} s could be decoded"
                raise AudioError(f"is truncated: {found}; copy it again")

    return sr, blocks()


def _ffmpeg_blocks(path, offset, duration):
    """Decode with the ffmpeg program; returns (sampling rate, generator of blocks (n, channels))."""
    if shutil.which("ffmpeg") is None:
        raise AudioError(f"cannot be decoded: {path.suffix} needs the ffmpeg program; install it or convert to .wav")
    # "file:" and the white lists: a name or a playlist inside must not make ffmpeg open anything else.
    call = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    call += ["-format_whitelist", FFMPEG_FORMATS]
    call += ["-ss", str(offset)] if offset else []
    call += ["-t", str(duration)] if duration is not None else []
    call += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    # Not a pipe: nobody reads it while decoding, and a full pipe would stop ffmpeg for ever.
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
    process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)

    def fail():
        process.stdout.close()
        process.wait()
        errors.seek(0)
        told = errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        raise AudioError(f"cannot be decoded (ffmpeg: {told[-1] if told else 'no audio in it'})")

    # The AU header: magic, where the data begins, its length, encoding, sampling rate, channels.
    head = process.stdout.read(24)
    if len(head) < 24 or head[:4] != b".snd":
        fail()
    begin, _, _, sr, channels = struct.unpack(">5I", head[4:])
    process.stdout.read(begin - 24)

    def blocks():
        try:
            size = max(1, BLOCK_SAMPLES // channels) * channels * 4
            while data := process.stdout.read(size):
                usable = len(data) - len(data) % (4 * channels)
                yield np.frombuffer(data[:usable], ">f4").astype(np.float32).reshape(-1, channels)
            if process.wait() != 0:
                fail()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
            errors.close()

    return sr, blocks()


def decode(path, *, sr, offset=0.0, duration=None):
    """Decode one file to mono at `sr`, piece by piece, so that long files fit in memory.

    Channels are averaged and the rate changed with soxr's high quality, as `librosa.load` does.

    Parameters
    ----------
    path : str or Path
        Anything libsndfile reads; other formats go through ffmpeg.
    sr : int, in Hz
        Sampling rate to deliver.
    offset, duration : float, in seconds
        The part to take; `duration` None means to the end.

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
        _check_whole(path)
        opener = _ffmpeg_blocks if path.suffix.lower() in FFMPEG_ENDINGS else _sndfile_blocks
        source_sr, blocks = opener(path, offset, duration)
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror or error})") from None
    yield from to_mono(blocks, source_sr, sr, offset=offset)


def to_mono(blocks, source_sr, sr, *, offset=0.0):
    """Average channels and change the rate, block by block as they come.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n, channels), float32
        Consecutive pieces of the signal.
    source_sr, sr : int, in Hz
        Its sampling rate, and the one to deliver.
    offset : float, in seconds
        Where in the track the first block begins, for messages.

    Yields
    ------
    y : np.ndarray, shape (n,), float32
        One piece a block; where the rate is changed, another at the end.

    Raises
    ------
    AudioError
        When there is no sample, one is NaN or infinity, or the rate is out of range.
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
        # librosa's length: rounded up, with zeros where the resampler gave a sample less.
        wanted = -(-n_in * sr // source_sr) - n_out
        piece = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:wanted]
        yield np.pad(piece, (0, wanted - len(piece)))
    if n_in == 0:
        raise AudioError("holds no samples" + (f" after --offset {offset:g} s" if offset else ""))
