"""Pictures of kind ``"features"``: MFCC, chroma, contrast, roll-off and zero crossings, one above the other."""

import math
import warnings
from typing import Any

import numpy as np

from render import spectrogram
from render.settings import Settings

N_MFCC = 20


def feature_bands(settings: Settings) -> list[dict[str, Any]]:
    """Return the bands of a feature picture from the lowest row up, each with the values of levels 0 and 255.

    MFCCs are computed from decibels in [-top_db, 0]. The first is at least ``-top_db * sqrt(n_mels)``. The bounds
    of the others in theory are loose, so they are clipped at values that no track of GTZAN exceeds (for 80 dB: 256
    for the second, 128 for the rest). Chroma and the zero-crossing rate are in [0, 1], contrast is in dB,
    roll-off in Hz.

    Parameters
    ----------
    settings : Settings
        Those of the picture.

    Returns
    -------
    bands : list of dict
        ``name``, ``rows``, ``vmin`` and ``vmax``, ready for JSON.
    """
    top_db = settings.top_db
    table = [
        ("mfcc_1", 1, -top_db * math.sqrt(settings.n_mels), 0.0),
        ("mfcc_2", 1, -3.2 * top_db, 3.2 * top_db),
        (f"mfcc_3_to_{N_MFCC}", N_MFCC - 2, -1.6 * top_db, 1.6 * top_db),
        ("chroma", 12, 0.0, 1.0),
        ("spectral_contrast", 7, 0.0, 80.0),
        ("spectral_rolloff", 1, 0.0, settings.sr / 2),
        ("zero_crossing_rate", 1, 0.0, 1.0),
    ]
    return [{"name": name, "rows": rows, "vmin": vmin, "vmax": vmax} for name, rows, vmin, vmax in table]


def feature_values(y: np.ndarray, settings: Settings) -> np.ndarray:
    """Compute the values of a feature picture, with librosa.

    Parameters
    ----------
    y : np.ndarray, shape (n,), float32
        Mono audio at ``settings.sr``.
    settings : Settings
        Frames and Mel bands. Chroma, contrast and roll-off are computed from the same frames.

    Returns
    -------
    values : np.ndarray, shape (41, n_frames), float32
        Rows as in `feature_bands`.

    Raises
    ------
    AudioError
        As `spectrogram.mel_power`.
    """
    import librosa

    S, _ = spectrogram.mel_power([y], settings)
    S_db = spectrogram.power_to_db(S, ref=settings.ref, top_db=settings.top_db)
    frames: dict[str, Any] = {"n_fft": settings.n_fft, "hop_length": settings.hop_length}
    with warnings.catch_warnings():
        # librosa warns that silence has no pitch to estimate the tuning from; its chroma is 0.
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        magnitude = np.abs(librosa.stft(y, win_length=settings.win_length, window=settings.window, **frames))
        rows = [
            librosa.feature.mfcc(S=S_db, n_mfcc=N_MFCC),
            librosa.feature.chroma_stft(S=magnitude**2, sr=settings.sr, n_fft=settings.n_fft),
            librosa.feature.spectral_contrast(S=magnitude, sr=settings.sr, n_fft=settings.n_fft),
            librosa.feature.spectral_rolloff(S=magnitude, sr=settings.sr, n_fft=settings.n_fft),
            librosa.feature.zero_crossing_rate(y, frame_length=settings.n_fft, hop_length=settings.hop_length),
        ]
    # With an odd n_fft the counts may differ by a frame.
    n_frames = min(part.shape[1] for part in rows)
    return np.concatenate([part[:, :n_frames] for part in rows]).astype(np.float32)
