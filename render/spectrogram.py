"""Audio to Mel spectrogram, with the values of `librosa.feature.melspectrogram` and `power_to_db`, streamed.

librosa is not imported here, because that takes over a second in every worker. The tests compare this module
with librosa.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from render.audio import first_not_finite
from render.errors import AudioError
from render.settings import Settings

#: Frames transformed at a time: so many stay in the CPU's cache.
BLOCK_FRAMES = 32
#: Frames of each array in which the result is collected.
CHUNK_FRAMES = 8192
#: Bands multiplied at a time. Mel filters are narrow, so a few bands need few of the FFT's bins.
BLOCK_BANDS = 16
#: The largest picture drawn or read, in pixels: 3.4 hours at the default settings. Without a limit a small
#: malicious file would take all memory, because hours of silence compress to almost nothing.
MAX_PIXELS = 1 << 26
#: Slaney's Mel scale: 200/3 Hz a Mel up to 1 kHz (Mel 15), then 27 Mels for each factor of 6.4.
STEP, CORNER, LOG_STEP = 200.0 / 3, 1000.0, math.log(6.4) / 27
#: `power_to_db`'s floor, librosa's `amin`.
AMIN = 1e-10


def hz_to_mel(hz: float, *, htk: bool = False) -> float:
    """Convert hertz to Mels, on Slaney's scale (linear up to 1 kHz, logarithmic above) or HTK's.

    Parameters
    ----------
    hz : float, in Hz
        0 or more.
    htk : bool
        Use HTK's scale, O'Shaughnessy's formula (1987): ``2595 log10(1 + f / 700)``.
    """
    if htk:
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    return hz / STEP if hz < CORNER else CORNER / STEP + math.log(hz / CORNER) / LOG_STEP


def mel_to_hz(mels: float | np.ndarray, *, htk: bool = False) -> np.ndarray:
    """Convert Mels to hertz: the inverse of `hz_to_mel`.

    Parameters
    ----------
    mels : float or np.ndarray, in Mels
        0 or more.
    htk : bool
        Use HTK's scale.
    """
    if htk:
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    return np.where(mels < CORNER / STEP, mels * STEP, CORNER * np.exp(LOG_STEP * (mels - CORNER / STEP)))


def mel_filters(
    *, sr: int, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None, htk: bool = False
) -> np.ndarray:
    """Return triangular Mel filters, as `librosa.filters.mel` does.

    After Slaney's Auditory Toolbox (1998): triangles evenly spaced in Mels, each normalised to unit area.

    Parameters
    ----------
    sr, n_fft, n_mels, fmin, fmax, htk
        As in `Settings`.

    Returns
    -------
    weights : np.ndarray, shape (n_mels, 1 + n_fft // 2), float32
        Non-negative; row 0 is the lowest band.
    """
    fmax = sr / 2 if fmax is None else fmax
    mels = np.linspace(hz_to_mel(fmin, htk=htk), hz_to_mel(fmax, htk=htk), n_mels + 2)
    hz = mel_to_hz(mels, htk=htk)
    bins = np.fft.rfftfreq(n_fft, 1.0 / sr)
    rising = (bins - hz[:-2, None]) / np.diff(hz)[:-1, None]
    falling = (hz[2:, None] - bins) / np.diff(hz)[1:, None]
    weights = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (hz[2:] - hz[:-2]))[:, None]
    return weights.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _banded_filters(sr: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, htk: bool) -> list[tuple]:
    """Cut the filters into blocks of bands: a list of (bands, bins, weights (n_bins, n_bands))."""
    weights = mel_filters(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk)
    blocks = []
    for low in range(0, n_mels, BLOCK_BANDS):
        rows = weights[low : low + BLOCK_BANDS]
        used = np.flatnonzero(rows.any(axis=0))
        # With many bands and a short window some triangles fall between two bins and stay empty.
        bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        blocks.append((slice(low, low + len(rows)), bins, np.ascontiguousarray(rows[:, bins].T)))
    return blocks


@functools.lru_cache(maxsize=4)
def _window(name: str, win_length: int, n_fft: int) -> np.ndarray:
    """Return a periodic window, centred in `n_fft` samples."""
    if name == "hann":  # without scipy.signal, whose import takes longer than drawing 50 tracks
        values = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    else:
        from scipy.signal import get_window

        values = get_window(name, win_length)
    left = (n_fft - win_length) // 2
    return np.pad(values, (left, n_fft - win_length - left)).astype(np.float32)


def mel_power(blocks: Iterable[np.ndarray], settings: Settings) -> tuple[np.ndarray, int]:
    """Compute the Mel power spectrogram of a mono signal that arrives in pieces.

    Frames are centred and the signal is padded with zeros at both ends, as in librosa. Besides the result
    (about 80 MB an hour at the default settings) it takes little memory.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n,), float32
        The signal at ``settings.sr``, in order, in pieces of any length.
    settings : Settings
        Window, hop and Mel bands.

    Returns
    -------
    S : np.ndarray, shape (n_mels, n_frames), float32
        Power, row 0 the lowest band; ``n_frames = 1 + (n_samples - n_fft % 2) // hop_length``.
    n_samples : int
        The length of the signal.

    Raises
    ------
    AudioError
        When the signal is empty, shorter than one window, too long to draw (`MAX_PIXELS`), or holds
        NaN or infinity; the message says where.
    """
    from scipy import fft

    n_fft, hop_length = settings.n_fft, settings.hop_length
    window = _window(settings.window, settings.win_length or n_fft, n_fft)
    filters = _banded_filters(settings.sr, n_fft, settings.n_mels, settings.fmin, settings.fmax, settings.htk)
    chunks: list[Any] = []
    used = CHUNK_FRAMES

    def collect(mel: np.ndarray) -> None:
        nonlocal used
        while len(mel):
            if used == CHUNK_FRAMES:
                chunks.append(np.empty((CHUNK_FRAMES, settings.n_mels), np.float32))
                used = 0
            part = mel[: CHUNK_FRAMES - used]
            chunks[-1][used : used + len(part)] = part
            used += len(part)
            mel = mel[len(part) :]

    def transform(y: np.ndarray) -> np.ndarray:
        """Transform every whole frame of `y`; returns the samples from which the next frame starts."""
        if len(y) < n_fft:
            return y
        frames = np.lib.stride_tricks.sliding_window_view(y, n_fft)[::hop_length]
        for start in range(0, len(frames), BLOCK_FRAMES):
            spectrum = fft.rfft(frames[start : start + BLOCK_FRAMES] * window, overwrite_x=True)
            mel = np.empty((len(spectrum), settings.n_mels), np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # `power_to_db` raises an error for the result
                power = spectrum.real**2 + spectrum.imag**2
                if settings.power != 2:
                    power **= settings.power / 2
                for bands, bins, weights in filters:
                    np.matmul(power[:, bins], weights, out=mel[:, bands])
            collect(mel)
        return y[len(frames) * hop_length :]

    rest = np.zeros(n_fft // 2, np.float32)
    n_samples = 0
    for block in blocks:
        if (at := first_not_finite(block)) is not None:
            raise AudioError(f"holds NaN or infinity, first at {(n_samples + at) / settings.sr:.3f} s")
        n_samples += len(block)
        if n_samples // hop_length * settings.n_mels > MAX_PIXELS:
            hours = MAX_PIXELS / settings.n_mels * hop_length / settings.sr / 3600
            raise AudioError(f"is longer than {hours:.1f} hours; set duration to draw a part of it")
        # First the frames that began in the piece before; so no whole piece is copied.
        joint = np.concatenate([rest, block[: n_fft - 1]])
        left = transform(joint)
        taken = len(joint) - len(left)  # where the next frame starts, counted from the start of `rest`
        rest = transform(block[taken - len(rest) :]) if taken >= len(rest) else left
    if n_samples == 0:
        raise AudioError("holds no samples")
    if n_samples < n_fft:
        raise AudioError(
            f"is {n_samples / settings.sr:.3f} s long, shorter than one window of {n_fft / settings.sr:.3f} s"
        )
    # A window of odd length, too, is padded by n_fft // 2 on both sides.
    transform(np.concatenate([rest, np.zeros(n_fft // 2, np.float32)]))
    S = np.empty(((len(chunks) - 1) * CHUNK_FRAMES + used, settings.n_mels), np.float32)
    for number in range(len(chunks)):  # each is freed once copied, so that memory never holds everything twice
        S[number * CHUNK_FRAMES :][:CHUNK_FRAMES] = chunks[number][: len(S) - number * CHUNK_FRAMES]
        chunks[number] = None
    return S.T, n_samples


def power_to_db(
    S: np.ndarray, *, ref: float | str = "max", top_db: float = 80.0, overwrite: bool = False
) -> np.ndarray:
    """Convert power to decibels below `ref`, as `librosa.power_to_db` does.

    Parameters
    ----------
    S : np.ndarray, float32
        Power, non-negative.
    ref : float or "max"
        The power that becomes 0 dB; "max" is the largest of `S`.
    top_db : float, in dB
        Values are clipped to the range from this far below `ref` up to `ref`.
    overwrite : bool
        Reuse the memory of `S`, whose values are lost.

    Returns
    -------
    S_db : np.ndarray, same shape, float32
        In [-top_db, 0]. All values are ``-top_db`` if `S` is digital silence, which has no peak to refer to.

    Raises
    ------
    AudioError
        When the power is not finite: samples of 1e19 and more overflow.
    """
    peak = float(S.max())
    if not math.isfinite(peak):
        raise AudioError("holds values too large for sound")
    if peak <= AMIN:
        return np.full_like(S, -top_db)
    S_db = np.maximum(S, AMIN, out=S if overwrite else None)
    np.log10(S_db, out=S_db)
    S_db *= 10.0
    S_db -= 10.0 * math.log10(peak if ref == "max" else max(float(ref), AMIN))
    return np.clip(S_db, -top_db, 0, out=S_db)


def mel_spectrogram(y: np.ndarray, settings: Settings | None = None) -> np.ndarray:
    """Compute the Mel spectrogram of a mono signal, in decibels below its own peak.

    Parameters
    ----------
    y : np.ndarray, shape (n_samples,)
        Finite float32 audio at ``settings.sr``, nominally in [-1, 1].
    settings : Settings, optional
        The defaults are librosa's.

    Returns
    -------
    S_db : np.ndarray, shape (n_mels, n_frames), float32
        In [-top_db, 0]; row 0 is the lowest band.

    Raises
    ------
    AudioError
        If `y` is empty, shorter than one window or holds NaN or infinity; the message says where.

    Examples
    --------
    >>> y = np.sin(2 * np.pi * 440 / 22050 * np.arange(22050)).astype(np.float32)
    >>> mel_spectrogram(y).shape
    (128, 44)
    """
    settings = settings or Settings()
    S, _ = mel_power([np.asarray(y, np.float32)], settings)
    return power_to_db(S, ref=settings.ref, top_db=settings.top_db)
