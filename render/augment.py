"""Augmented copies of a track: its audio shifted in pitch and stretched in time."""

import hashlib

import numpy as np

#: Largest shift in pitch, and range of the change of speed.
SEMITONES = 2.0
RATES = (0.8, 1.25)


def draw_change(track_id: str, copy: int) -> dict[str, float]:
    """Draw the random change of one copy: the same for the same track and number on every machine.

    Parameters
    ----------
    track_id : str
        Seeds the draw, together with `copy`.
    copy : int
        Number of the copy, from 1.

    Returns
    -------
    change : dict
        ``semitones`` in [-2, 2], uniform, and ``rate`` in [0.8, 1.25] (above 1 is faster), uniform
        on a logarithmic scale.
    """
    seed = hashlib.blake2b(f"{track_id}/{copy}".encode(errors="surrogateescape"), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    low, high = np.log(RATES)
    return {
        "semitones": round(float(rng.uniform(-SEMITONES, SEMITONES)), 3),
        "rate": round(float(np.exp(rng.uniform(low, high))), 4),
    }


def change_audio(y: np.ndarray, *, sr: int, semitones: float, rate: float) -> np.ndarray:
    """Shift the pitch and change the speed, in one pass of librosa's phase vocoder.

    `librosa.effects.pitch_shift` stretches and then resamples; the change of speed is done by the same stretch.

    Parameters
    ----------
    y : np.ndarray, shape (n,), float32
        Mono audio.
    sr : int, in Hz
        Its sampling rate.
    semitones : float
        Shift in pitch; negative is down.
    rate : float
        Change of speed; above 1 is faster.

    Returns
    -------
    y : np.ndarray, shape (about n / rate,), float32
    """
    import librosa

    pitch = 2.0 ** (-semitones / 12)
    stretched = librosa.effects.time_stretch(y, rate=rate * pitch)
    return librosa.resample(stretched, orig_sr=sr / pitch, target_sr=sr)
