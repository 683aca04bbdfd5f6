"""Sound as it comes: a prediction every second of a stream that need not end."""

import io
import struct

import numpy as np
import torch

from render import audio, batch, spectrogram
from render.errors import MelvisionError
from vision.data.pixel_store import PixelStore

#: Seconds heard at most by a model of windows: levels refer to the peak of what is heard, as a train
#: picture's do to its track's. Models of whole tracks hear as much as those had.
LONGEST = 60.0

#: Format tags and bits of WAV: what libsndfile calls them.
SUBTYPES = {
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32",
    (3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip

#: What `live` raises of a stream that holds no sound.
UNUSABLE = (audio.AudioError, ValueError)

#: Data lengths of WAV headers that mean "until it ends".
ENDLESS = 0x7FFFF000


class StreamBuffer:
    """The last seconds of a stream, as what a picture of them shows. Mel frames are computed once each.

    Until it is full, this is what a file of all that was heard gives; afterwards the last frames of
    such a file (without those that began before), in decibels of their own peak.

    Parameters
    ----------
    settings : Settings
        How to draw.
    seconds : float
        How much to keep.
    """

    def __init__(self, settings, seconds):
        self._settings = settings
        self._features = settings.kind == "features"  # these need all samples at once
        hop = settings.hop_length
        self._keep = round(seconds * settings.sr) if self._features else 1 + int(seconds * settings.sr) // hop
        # What the next frame reaches back to, and one more: never less than a window is kept. Before the start
        # is silence.
        self._margin = -(-(settings.n_fft // 2) // hop) + 1
        self._rest = np.zeros(0 if self._features else self._margin * hop, np.float32)
        self._final = np.zeros((settings.n_mels, 0), np.float32)
        self._shown = self._final
        self._n = 0

    def add(self, y):
        """Hear some more samples (n,) at the settings' rate, float32."""
        self._n += len(y)
        self._rest = np.concatenate([self._rest, y])
        if self._features:
            self._rest = self._rest[-self._keep :]
            return
        n_fft, hop = self._settings.n_fft, self._settings.hop_length
        if self._n < n_fft:
            return
        S, _ = spectrogram.mel_power([self._rest], self._settings)
        S = S[:, self._margin :]
        # Frames that reach beyond what was heard are drawn as a file's last ones, and again when more came.
        complete = max(0, (len(self._rest) - n_fft + n_fft // 2) // hop + 1 - self._margin)
        self._shown = np.concatenate([self._final, S], axis=1)[:, -self._keep :]
        self._final = np.concatenate([self._final, S[:, :complete]], axis=1)[:, -self._keep :]
        self._rest = self._rest[complete * hop :]

    def values(self, latest):
        """What a picture of the last seconds shows.

        Parameters
        ----------
        latest : float, in seconds
            Silence is looked for in so much of the end.

        Returns
        -------
        values : np.ndarray, shape (n_rows, n_frames), float32, or None
            As `render.batch.compute` gives; None until there is enough for one frame.
        silent : bool
            Whether there was nothing to hear at the end.
        """
        settings = self._settings
        if self._n < settings.n_fft:
            return None, False
        if self._features:
            end = self._rest[-max(1, round(latest * settings.sr)) :]
            return batch.compute_pieces([self._rest], settings)[0], not end.any()
        end = self._shown[:, -max(1, round(latest * settings.sr / settings.hop_length)) :]
        values = spectrogram.power_to_db(self._shown, ref=settings.ref, top_db=settings.top_db)
        return values, end.max() <= spectrogram.AMIN


def live(predictor, blocks, sr):
    """Predict a stream, once a block.

    A model of windows is given the last window; while the stream is shorter, what `Predictor.read` gives of a
    file of what was heard so far. A model of whole tracks is given as much as its train tracks had. Where
    the rate has to be changed, the resampler holds the last 20 to 80 ms back.

    Parameters
    ----------
    predictor : Predictor
        The model.
    blocks : iterable of np.ndarray, shape (n, channels), float32
        The signal as it comes; of a second each, say.
    sr : int, in Hz
        Its sampling rate.

    Yields
    ------
    seconds : float
        Length of the stream so far.
    probabilities : np.ndarray, shape (n_classes,), or None
        None while there is silence.

    Raises
    ------
    audio.AudioError, ValueError
        When the stream holds nothing, or no sound.
    """
    spec, settings = predictor.spec, predictor.preprocessor.settings
    window = spec.window or spec.typical_seconds
    hearing = StreamBuffer(settings, max(window, min(spec.typical_seconds, LONGEST)))
    heard = told = 0

    def counted():
        nonlocal heard
        for block in blocks:
            heard += len(block)
            yield block

    for y in audio.to_mono(counted(), sr, settings.sr):
        hearing.add(y)
        values, silent = hearing.values(window)
        if values is None or heard == told:  # the resampler's last samples are no answer of their own
            continue
        told = heard
        if silent:
            yield heard / sr, None
            continue
        x = predictor.preprocessor.from_values(values).x[..., -spec.size :]
        yield heard / sr, predictor.probabilities(PixelStore.of(torch.clone(x)[None]))[0]


class Pcm:
    """Samples from a pipe: a WAV stream of any length, or raw 16-bit mono.

    Parameters
    ----------
    file : binary file
        Read as it comes, never sought.
    rate : int, optional
        Sampling rate in Hz of raw samples (signed 16 bits, little-endian, mono). A WAV header has its own.

    Attributes
    ----------
    sr : int, in Hz
        Sampling rate.
    note : str
        What was odd about the end, once it was reached.

    Raises
    ------
    MelvisionError
        When there is nothing, or neither a WAV header nor a rate.
    """

    def __init__(self, file, rate=None):
        self._file, self.note = file, ""
        self._head = file.read(12)
        self._left = None
        if self._head[:4] == b"RIFF" and self._head[8:] == b"WAVE":
            self._head = b""
            self.sr, self._channels, self._subtype, self._width, self._left = _read_header(file)
        elif not self._head:
            raise MelvisionError("standard input is empty; expected samples")
        elif rate is None:
            raise MelvisionError("standard input has no WAV header; give --rate for raw 16-bit mono samples")
        else:
            self.sr, self._channels, self._subtype, self._width = rate, 1, "PCM_16", 2

    def __iter__(self):
        """Yield blocks (n, channels), float32, of one second; the last may be shorter."""
        import soundfile

        second = self.sr * self._width
        while True:
            wanted = second if self._left is None else min(second, self._left)
            data = self._head + self._file.read(max(0, wanted - len(self._head)))
            self._head = b""
            if self._left is not None:
                self._left -= len(data)
            usable = len(data) - len(data) % self._width
            if usable:
                yield soundfile.read(
                    io.BytesIO(data[:usable]), dtype="float32", always_2d=True, format="RAW", endian="LITTLE",
                    subtype=self._subtype, channels=self._channels, samplerate=self.sr,
                )[0]  # fmt: skip
            if len(data) < second:
                if usable < len(data):
                    self.note = f"the last {len(data) - usable} bytes are no whole sample and were left out"
                elif self._left:
                    self.note = f"ended {self._left} bytes before the length in its header"
                return


def _read_header(file):
    """Read a WAV header to where the samples begin: rate, channels, subtype, bytes a frame, bytes or None."""
    found = None
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            if found is None:
                break
            return *found, size if 0 < size < ENDLESS else None
        if size > 1 << 24:
            break
        content = file.read(size + size % 2)
        if name == b"fmt " and len(content) >= 16:
            tag, channels, sr, _, width, bits = struct.unpack("<HHIIHH", content[:16])
            if tag == 0xFFFE and len(content) >= 26:
                tag = struct.unpack("<H", content[24:26])[0]
            subtype = SUBTYPES.get((tag, bits))
            if subtype is None or not 0 < channels <= 64 or width != channels * bits // 8 or sr < 1:
                raise MelvisionError(
                    f"standard input is WAV of format {tag} with {bits} bits and {channels} channels; "
                    "expected PCM of 8 to 32 bits or floats, such as of ffmpeg -f wav"
                )
            found = sr, channels, subtype, width
    raise MelvisionError("standard input has a damaged WAV header; expected its fmt and data chunks")
