"""Predictions for a stream of sound, every second; the stream need not end."""

import io
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import torch

from render import audio, batch, sniff, spectrogram
from render.errors import AudioError, MelvisionError, ParameterError
from render.settings import Settings
from vision.data.pixel_store import PixelStore

if TYPE_CHECKING:
    from vision.inference.predictor import Predictor

#: Seconds that are kept at most for a model of windows: levels are relative to the peak of these, as those of a train
#: picture are to the peak of its track. Models of whole tracks get as much as a train track had.
MAX_SECONDS = 60.0

#: Format tag and bits of a WAV header to libsndfile's name of the format.
SUBTYPES = {
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32",
    (3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip

#: Data lengths of WAV headers from here on mean "until the stream ends".
ENDLESS = 0x7FFFF000


class StreamBuffer:
    """The spectrogram of the last seconds of a stream; each Mel frame is computed once.

    Until the buffer is full, its spectrogram is that of a file with all samples so far; afterwards it is the last
    frames of such a file's, in decibels relative to their own peak.

    Parameters
    ----------
    settings : Settings
        Of the spectrogram.
    seconds : float
        How much to keep.
    """

    def __init__(self, settings: Settings, seconds: float):
        self._settings = settings
        self._features = settings.kind == "features"  # computed from all samples at once
        hop = settings.hop_length
        self._keep = round(seconds * settings.sr) if self._features else 1 + int(seconds * settings.sr) // hop
        # Frames that the next one overlaps, and one more, so that at least a window is kept. The stream begins with
        # silence.
        self._margin = -(-(settings.n_fft // 2) // hop) + 1
        self._rest = np.zeros(0 if self._features else self._margin * hop, np.float32)
        self._final = np.zeros((settings.n_mels, 0), np.float32)
        self._frames = self._final
        self._n = 0
        self._peaks: deque[tuple[int, float]] = deque()  # where pieces end, and their peaks

    def add(self, y: np.ndarray) -> None:
        """Append samples, shape (n,), float32, at the sampling rate of the settings."""
        self._n += len(y)
        self._peaks.append((self._n, audio.peak(y)))
        self._rest = np.concatenate([self._rest, y])
        if self._features:
            self._rest = self._rest[-self._keep :]
            return
        n_fft, hop = self._settings.n_fft, self._settings.hop_length
        if self._n < n_fft:
            return
        S, _ = spectrogram.mel_power([self._rest], self._settings)
        S = S[:, self._margin :]
        # Frames that extend beyond the end are computed like the last ones of a file, and again with the next samples.
        complete = max(0, (len(self._rest) - n_fft + n_fft // 2) // hop + 1 - self._margin)
        self._frames = np.concatenate([self._final, S], axis=1)[:, -self._keep :]
        self._final = np.concatenate([self._final, S[:, :complete]], axis=1)[:, -self._keep :]
        self._rest = self._rest[complete * hop :]

    def values(self, latest: float) -> tuple[np.ndarray | None, bool]:
        """Compute the spectrogram of the buffer.

        Parameters
        ----------
        latest : float, in seconds
            Length of the end of the buffer that is checked for silence.

        Returns
        -------
        values : np.ndarray, shape (n_rows, n_frames), float32, or None
            As `render.batch.compute` returns; None until there are enough samples for one frame.
        silent : bool
            Whether the end is silent.
        """
        settings = self._settings
        if self._n < settings.n_fft:
            return None, False
        # The first frames of that end reach back by as much as a frame.
        while self._peaks[0][0] <= self._n - latest * settings.sr - settings.n_fft:
            self._peaks.popleft()
        silent = max(peak for _, peak in self._peaks) <= audio.SILENT_PEAK
        if self._features:
            return batch.compute_pieces([self._rest], settings)[0], silent
        end = self._frames[:, -max(1, round(latest * settings.sr / settings.hop_length)) :]
        values = spectrogram.power_to_db(self._frames, ref=settings.ref, top_db=settings.top_db)
        return values, silent or bool(end.max() <= spectrogram.AMIN)


def predict_stream(
    predictor: "Predictor", blocks: Iterable[np.ndarray], sr: int
) -> Iterator[tuple[float, np.ndarray | None, bool]]:
    """Predict a stream, once for each block.

    A model of windows gets the last window; as long as the stream is shorter, the prediction is that of a file with the
    samples so far. A model of whole tracks gets as much as a train track had. Where the sampling rate has to be
    changed, the resampler delays the last 20 to 80 ms.

    Parameters
    ----------
    predictor : Predictor
        The model.
    blocks : iterable of np.ndarray, shape (n, channels), float32
        The signal, for example in blocks of one second.
    sr : int, in Hz
        Its sampling rate.

    Yields
    ------
    seconds : float
        Length of the stream so far.
    probabilities : np.ndarray, shape (n_classes,), or None
        None while there is silence.
    unlike : bool
        Whether it is unlike the training music.

    Raises
    ------
    AudioError
        When the stream holds no samples, or NaN or infinity.
    """
    spec, settings = predictor.spec, predictor.preprocessor.settings
    window = spec.window or spec.typical_seconds
    buffer = StreamBuffer(settings, max(window, min(spec.typical_seconds, MAX_SECONDS)))
    n_received = n_predicted = 0

    def count(blocks):
        nonlocal n_received
        for block in blocks:
            n_received += len(block)
            yield block

    for y in audio.to_mono(count(blocks), sr, settings.sr):
        buffer.add(y)
        values, silent = buffer.values(window)
        # The resampler's last samples come without a new block and are no reason for another prediction.
        if values is None or n_received == n_predicted:
            continue
        n_predicted = n_received
        if silent:
            yield n_received / sr, None, False
            continue
        x = predictor.preprocessor.from_values(values).x[..., -spec.size :]
        answers = predictor.answers(PixelStore.of(torch.clone(x)[None]))
        yield n_received / sr, answers.p[0], bool(predictor.is_unlike(answers)[0])


class _Format(NamedTuple):
    """Format of the samples of a stream; `subtype` is libsndfile's name, `width` the bytes of all channels."""

    sr: int
    channels: int
    subtype: str
    width: int


class SampleStream:
    """Samples from a pipe: a WAV stream of any length, another container that ffmpeg reads, or raw 16-bit mono.

    Parameters
    ----------
    file : binary file
        Read in order, without seeking.
    rate : int, optional
        Sampling rate in Hz of raw samples (signed 16 bits, little-endian, mono). A WAV header has its own.
    name : str
        Name of the stream in error messages.

    Attributes
    ----------
    sr : int, in Hz
        Sampling rate.
    note : str
        What was wrong with the end of the stream, set when it is reached.

    Raises
    ------
    MelvisionError
        When the stream is empty, has neither a header nor a rate, or is of a format that cannot be decoded here.
    """

    def __init__(self, file: BinaryIO, rate: int | None = None, *, name: str = "the stream"):
        self._file, self.note = file, ""
        self._head = file.read(12)
        self._bytes_left: int | None = None
        self._decoded: Iterator[np.ndarray] | None = None
        if self._head[:4] == b"RIFF" and self._head[8:] == b"WAVE":
            self._head = b""
            self._format, self._bytes_left = _read_header(file, name)
        elif not self._head:
            raise MelvisionError(f"{name} is empty; expected samples")
        elif kind := sniff.stream_format(self._head, raw=rate is not None):
            # Whatever --rate says: the bytes of a container, taken for samples, would be noise of some genre.
            try:
                self.sr, self._decoded = audio.decode_stream(file, self._head, kind)
            except AudioError as error:
                raise MelvisionError(f"{name} {error}") from None
            return
        elif rate is None:
            expected = f"a sampling rate of raw 16-bit mono samples, because {name} has no header of a known format"
            raise ParameterError("rate", rate, expected)
        else:
            self._format = _Format(rate, 1, "PCM_16", 2)
        self.sr = self._format.sr

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield blocks (n, channels), float32, of one second; the last may be shorter."""
        if self._decoded is not None:
            yield from self._decoded
            return
        import soundfile

        sr, channels, subtype, width = self._format
        second = sr * width
        while True:
            size = second if self._bytes_left is None else min(second, self._bytes_left)
            data = self._head + self._file.read(max(0, size - len(self._head)))
            self._head = b""
            if self._bytes_left is not None:
                self._bytes_left -= len(data)
            usable = len(data) - len(data) % width
            if usable:
                yield soundfile.read(
                    io.BytesIO(data[:usable]), dtype="float32", always_2d=True, format="RAW", endian="LITTLE",
                    subtype=subtype, channels=channels, samplerate=sr,
                )[0]  # fmt: skip
            if len(data) < second:
                if usable < len(data):
                    self.note = f"the last {len(data) - usable} bytes are not a whole sample and were ignored"
                elif self._bytes_left:
                    self.note = f"ended {self._bytes_left} bytes before the length in its header"
                return


def _read_header(file: BinaryIO, name: str) -> tuple[_Format, int | None]:
    """Read a WAV header up to the samples; returns the format and the bytes of samples, None where unknown."""
    sample_format = None
    while len(head := file.read(8)) == 8:
        chunk, size = head[:4], struct.unpack("<I", head[4:])[0]
        if chunk == b"data":
            if sample_format is None:
                break
            return sample_format, size if 0 < size < ENDLESS else None
        if size > 1 << 24:
            break
        content = file.read(size + size % 2)
        if chunk == b"fmt " and len(content) >= 16:
            tag, channels, sr, _, width, bits = struct.unpack("<HHIIHH", content[:16])
            if tag == 0xFFFE and len(content) >= 26:
                tag = struct.unpack("<H", content[24:26])[0]
            subtype = SUBTYPES.get((tag, bits))
            if subtype is None or not 0 < channels <= 64 or width != channels * bits // 8 or sr < 1:
                raise MelvisionError(
                    f"{name} is WAV of format {tag} with {bits} bits and {channels} channels; "
                    "expected PCM of 8 to 32 bits or floats, such as from ffmpeg -f wav"
                )
            sample_format = _Format(sr, channels, subtype, width)
    raise MelvisionError(f"{name} has a damaged WAV header; expected its fmt and data chunks")
