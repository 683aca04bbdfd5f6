"""More pictures of one track: its audio shifted in pitch and stretched in time."""

import hashlib

import numpy as np

#: Ranges of the draw.
SEMITONES = 2.0
RATES = (0.8, 1.25)


def draw_change(track_id, copy):
    """Draw how the copy differs: the same for the same track and number, on every machine.

    Parameters
    ----------
    track_id : str
        The track.
    copy : int
        Number of the copy, from 1.

    Returns
    -------
    change : dict
        ``semitones`` in [-2, 2], uniform, and ``rate`` in [0.8, 1.25] (above 1 is faster), uniform
        in its logarithm.
    """
    seed = hashlib.blake2b(f"{track_id}/{copy}".encode(errors="surrogateescape"), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    low, high = np.log(RATES)
    return {
        "semitones": round(float(rng.uniform(-SEMITONES, SEMITONES)), 3),
        "rate": round(float(np.exp(rng.uniform(low, high))), 4),
    }


def change_audio(y, *, sr, semitones, rate):
    """Shift the pitch and change the speed, in one pass of librosa's phase vocoder.

    `librosa.effects.pitch_shift` is a stretch and a resampling; another stretch joins the first.

    Parameters
    ----------
    y : np.ndarray, shape (n,), float32
        Mono audio.
    sr : int, in Hz
        Its sampling rate.
    semitones : float
        Up, or down where negative.
    rate : float
        Above 1 is faster.

    Returns
    -------
    y : np.ndarray, shape (about n / rate,), float32
    """
    import librosa

    pitch = 2.0 ** (-semitones / 12)
    stretched = librosa.effects.time_stretch(y, rate=rate * pitch)
    return librosa.resample(stretched, orig_sr=sr / pitch, target_sr=sr)
