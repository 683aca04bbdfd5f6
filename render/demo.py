"""Synthetic music for the ten GTZAN genres, so that everything can be tried without a download.

Each track is composed by the rules of its genre (tempo, swing, harmony, players, drums) and by its own random draw of
key, sounds, mix, room and form; sometimes it borrows from another genre.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from render.atomic import replacing
from render.cli import command, progress
from render.errors import MelvisionError, ParameterError

BORROW = 0.12  # probability that drums, an extra player or the recording are another genre's
CYCLE = 4096  # samples of one stored cycle of a waveform; so many that no interpolation is needed
CHORDS = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m9": (0, 3, 10, 14), "M9": (0, 4, 11, 14)}
DEGREES = {"I": 0, "bII": 1, "II": 2, "bIII": 3, "III": 4, "IV": 5, "V": 7, "bVI": 8, "VI": 9, "bVII": 10}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "blues": (0, 3, 5, 6, 7, 10)}
VOWELS = ((700, 1100), (300, 2200), (400, 800), (500, 1700))  # two formants each, in Hz

# fmt: off
TIMBRES = {  # arguments of `_tone`
    "acoustic": "tilt=1.0 decay=0.5 noise=0.15", "clean": "tilt=1.4 decay=0.8 noise=0.05",
    "crunch": "tilt=1.0 decay=2.0 drive=3", "high-gain": "tilt=0.8 decay=4.0 drive=12",
    "bent": "tilt=1.0 decay=2.0 drive=1.5 vibrato=0.25 bend=2", "electric": "tilt=1.3 decay=0.7",
    "upright": "tilt=1.9 decay=0.6 noise=0.1", "sub": "tilt=3.0 attack=0.01 release=0.1",
    "organ": "tilt=1.7 attack=0.01 even=0.7", "piano": "tilt=1.5 decay=1.2 release=0.15",
    "strings": "tilt=1.2 attack=0.15 release=0.25 vibrato=0.1 detune=0.1",
    "violin": "tilt=1.0 attack=0.07 release=0.15 vibrato=0.25 bend=0.5 noise=0.05",
    "reed": "tilt=0.9 attack=0.03 even=0.5 vibrato=0.2 bend=0.7 noise=0.2",
    "synth": "tilt=0.7 attack=0.01 even=0.3 detune=0.15",
    "voice": "tilt=0.7 attack=0.05 vibrato=0.25 bend=1 noise=0.1 vowels=1",
    "rap": "tilt=0.6 attack=0.01 decay=0.25 bend=2 noise=0.6 vowels=1",
}
DRUMS = {  # Hz at the start and at the end, decay in s; share of noise, its decay in s, its band in Hz
    "kick": (150, 50, 0.12, 0.15, 0.01, 800, 7000), "boom": (120, 44, 0.35, 0.05, 0.01, 500, 5000),
    "snare": (230, 180, 0.06, 0.75, 0.1, 700, 9000), "clap": (900, 800, 0.01, 0.95, 0.11, 900, 5000),
    "hat": (0, 0, 0.01, 1.0, 0.03, 6000, 11000), "open": (0, 0, 0.01, 1.0, 0.16, 5500, 11000),
    "ride": (3100, 3100, 0.1, 0.9, 0.25, 4000, 10000), "brush": (0, 0, 0.01, 1.0, 0.09, 1200, 7000),
    "rim": (900, 800, 0.02, 0.3, 0.02, 1500, 6000), "click": (210, 58, 0.07, 0.35, 0.012, 1500, 8000),
}
KITS = {  # one bar, a sign for a sixteenth note: o is hit softly, X hard
    "shuffle": "kick X.......X....... snare ....X.......X... hat x.x.x.x.x.x.x.x.",
    "train": "kick x.......x....... brush xoXoxoXoxoXoxoXo",
    "disco": "kick X...X...X...X... clap ....X.......X... open ..X...X...X...X. hat x.x.x.x.x.x.x.x.",
    "boom-bap": "boom X......x..X..... snare ....X.......X..o hat x.x.x.xox.x.x.x.",
    "swing": "ride x...x.x.x...x.x. hat ....x.......x... brush o...o...o...o... snare ......o......o..",
    "double-kick": "click XxXxXxXxXxXxXxXx snare ....X.......X... open X...X...X...X...",
    "pop": "kick X.....x.X....... snare ....X.......X... clap ....x.......x... hat x.x.x.x.x.x.x.xo",
    "one-drop": "kick ........X....... rim ........X....... hat x.x.x.x.x.x.x.xo",
    "rock": "kick X......xX.x..... snare ....X.......X... open x.x.x.x.x.x.x.x.",
}
#: Timbres to choose from, middle pitch (MIDI), level, chance to play (1: never rests either), figures of
#: one bar: a digit is that tone of the chord, c all of it, p root and fifth, ? a melody, - hold, . silence.
PARTS = {
    "shuffle-bass": ("upright electric", 38, 0.8, 1.0, "0-1-2-1-3-2-1-2- 0-0-2-2-3-3-2-2-"),
    "walking-bass": ("upright", 38, 0.8, 1.0, "0---?---?---?--- 0---?---?-?-?---"),
    "two-beat": ("upright electric", 38, 0.8, 1.0, "0---....2---.... 0---....2---2-1-"),
    "octave-bass": ("electric", 38, 0.8, 1.0, "0.3.0.3.0.3.0.3. 0-3.0-3.0.3.2.3."),
    "eighth-bass": ("electric", 36, 0.7, 0.9, "0-0-0-0-0-0-0-0- 0--0--0-0--0--2-"),
    "sub-bass": ("sub", 33, 1.1, 1.0, "0-----..0-0-.... 0---..0-....0-.."),
    "dub-bass": ("sub upright", 34, 1.2, 1.0, "0---..2-0-..2--- ..0-2-0-....0---"),
    "chicka": ("acoustic clean", 60, 0.55, 1.0, "....c-......c-.. ....c-c-....c-c-"),
    "scratch": ("clean", 66, 0.35, 0.8, "..c.c.cc..c.c.cc c..c..c...c.c..."),
    "skank": ("clean organ piano", 62, 0.6, 1.0, "..c...c...c...c. ..cc..c...cc..c."),
    "strum": ("acoustic clean crunch", 57, 0.4, 0.7, "c-..c-c-..c-c-c- c---c-c-c---c-c-"),
    "power": ("crunch", 45, 0.6, 1.0, "p---p-p-..p-p--- p-p-p-p-p-p-p-p-"),
    "chug": ("high-gain", 40, 0.8, 1.0, "pppp.ppppp.pp-p- p.ppp.ppp-----p-"),
    "pad": ("strings organ synth", 62, 0.35, 0.6, "c--------------- c-------c---c---"),
    "arpeggio": ("piano acoustic", 60, 0.6, 1.0, "0-1-2-3-4-3-2-1- 0123432101234321"),
    "riff": ("piano clean", 64, 0.45, 0.8, "c-..3-2-..c-2-.. ...c-....1c-...."),
    "melody": ("violin reed piano", 74, 0.55, 0.7, "?---?-?-?------- ?-?-?-?-?---?---"),
    "horn": ("reed piano", 66, 0.6, 0.9, "?-?-?-?-?---.... ..?-?-??????---?"),
    "bent-lead": ("bent reed", 69, 0.6, 0.8, "?-?-?---....?-?- ....?-?-?-----.."),
    "synth-lead": ("synth", 74, 0.5, 1.0, "?-?-?---?-?-?--- ?--?--?-?---...."),
    "voice": ("voice", 62, 0.7, 0.7, "?-?---?-?-----.. ..?-?-?---?---.."),
    "rapper": ("rap", 48, 0.7, 0.9, "?.?.??.?.?.?.??. ?-??.?.??.?.?.?."),
}
#: Slowest and fastest beats a minute, where the second eighth falls in its beat, highest Hz recorded,
#: reverberation in s, depth of swells; drums; players (the first always plays); songs (scale, chord a bar).
STYLES = {
    "blues": (60, 125, 0.65, 4500, 0.5, 0.2, "shuffle", "shuffle-bass bent-lead riff voice",
              "blues I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7 | blues Im9 Im9 IVm9 Im9 bVI7 V7"),
    "classical": (55, 150, 0.5, 5000, 1.8, 0.8, "none", "arpeggio pad melody",
                  "major I V VIm IIIm IV I IV V7 | major I IV V7 I | minor Im IVm V7 Im bVI bIII V Im"),
    "country": (85, 150, 0.53, 6000, 0.4, 0.15, "train", "two-beat chicka melody voice",
                "major I I IV I V7 V7 I I | major I IV V I"),
    "disco": (108, 130, 0.5, 7500, 0.5, 0.1, "disco", "octave-bass scratch pad melody voice",
              "minor Im IVm bVII bIII | minor Im IV | major I VIm IIm V"),
    "hiphop": (80, 102, 0.55, 6500, 0.2, 0.1, "boom-bap", "sub-bass rapper riff pad",
               "minor Im9 Im9 bVIM9 V7 | minor Im | minor Im9 IVm9"),
    "jazz": (80, 220, 0.64, 5000, 0.7, 0.3, "swing", "walking-bass horn riff melody",
             "major IIm9 V7 IM9 VIm9 | minor Im9 Im9 IVm9 Im9 bII7 Im9 | major IM9 VI7 IIm9 V7"),
    "metal": (110, 190, 0.5, 7500, 0.4, 0.1, "double-kick", "chug eighth-bass bent-lead voice",
              "minor Im Im bVI bVII | minor Im bII Im bVII | minor Im bIII IVm"),
    "pop": (90, 132, 0.5, 8500, 0.6, 0.15, "pop", "synth-lead eighth-bass pad strum voice",
            "major I V VIm IV | major VIm IV I V | major I IV V"),
    "reggae": (62, 92, 0.54, 5000, 0.8, 0.1, "one-drop", "skank dub-bass pad voice horn",
               "major I IV | minor Im bVII | major I V VIm IV | major I IIm IV I"),
    "rock": (95, 155, 0.5, 6500, 0.5, 0.15, "rock", "power eighth-bass strum bent-lead voice",
             "major I bVII IV I | major I IV V IV | minor Im bVI bIII bVII"),
}
# fmt: on
GENRES = tuple(sorted(STYLES))


def _tone(pitches, seconds, sr, rng, *, tilt, even=1.0, attack=0.005, decay=np.inf, release=0.06, vibrato=0.0,
          bend=0.0, detune=0.0, drive=0.0, noise=0.0, vowels=0):  # fmt: skip
    """One note or chord: harmonic k has level ``k ** -tilt``; times in s, pitches in semitones."""
    t = np.arange(max(2, round((seconds + release) * sr))) / sr
    y, vowel = np.zeros(t.size), VOWELS[rng.integers(len(VOWELS))] if vowels else ()
    slide = vibrato * np.sin(35 * t) * np.minimum(t / 0.4, 1) - bend * rng.random() * np.exp(-t / 0.07)
    players = [pitch + side for pitch in pitches for side in sorted({-detune / 2, detune / 2})]
    for pitch in players:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        k = np.arange(1, max(1, min(60, int(0.45 * sr / hz))) + 1)
        level = k**-tilt * np.where(k % 2, 1, even)
        level *= 0.03 + sum(np.exp(-(((k * hz - formant) / (90 + hz / 2)) ** 2)) for formant in vowel)
        level *= CYCLE / np.sqrt(2 * (level**2).sum())
        bright, dull = (np.fft.irfft(-1j * np.append(0, each), CYCLE) for each in (level, level / k))
        at = ((np.cumsum(hz * 2 ** (slide / 12)) / sr + rng.random()) * CYCLE).astype(np.int64) % CYCLE
        y += dull[at] + (bright - dull)[at] * np.exp(-3 * t / decay)  # strings lose their treble first
    y *= np.exp(-t / decay) / len(players) ** 0.5
    y += rng.normal(0, noise, t.size) * np.exp(-t / 0.025)
    if drive:
        cone = np.hanning(max(3, sr // 2800))  # a guitar amplifier passes little above 4 kHz
        y = np.convolve(np.tanh(drive * y), cone / cone.sum(), mode="same")
    return (y * np.clip(np.minimum(t / attack, (t[-1] - t) / release), 0, 1)).astype(np.float32)


def _drum(name, tune, sr, rng):
    """One hit: a falling tone and a band of noise."""
    start, end, ring, share, hiss, low, high = DRUMS[name]
    t = np.arange(round((0.02 + 6 * max(ring, hiss)) * sr)) / sr
    phase = np.cumsum(end + (start - end) * np.exp(-t / 0.03)) * tune / sr
    hz = np.fft.rfftfreq(t.size, 1 / sr) + 1
    band = 1 / (1 + (min(low * tune, 0.3 * sr) / hz) ** 6 + (hz / high / tune) ** 6)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(t.size)) * band, t.size)
    noise *= share / noise.std() * np.exp(-t / hiss)
    y = noise + 2 * (1 - share) * np.sin(2 * np.pi * phase) * np.exp(-t / ring)
    return (y * np.minimum(1, t / 0.001) * (1 - t / t[-1])).astype(np.float32)


def _pitches(sign, tones, scale, centre, last, rng):
    """Read a sign of a figure as pitches (MIDI) of the chord `tones`, near `centre` and the note before."""
    chord = tuple(centre + (tone - centre + 6) % 12 - 6 for tone in tones)
    if sign in "cp":
        return chord if sign == "c" else (chord[0], chord[0] + 7)
    if sign == "?":
        near = np.arange(centre - 9, centre + 10)
        fit = np.isin(near % 12, scale) + 2.0 * np.isin(near % 12, np.mod(tones, 12)) * (near != last)
        fit *= np.exp(-np.abs(near - last) / 2.5 - ((near - centre) / 8) ** 2)
        return (int(rng.choice(near, p=fit / fit.sum())),)
    octave, index = divmod(int(sign), len(tones))
    return (chord[0] + 12 * octave + (tones[index] - tones[0]) % 12,)


def _play(part, times, harmony, scale, tuning, sr, rng):
    """Yield a player's notes as (second, sound, level); `times` is shape (n_bars, 16) in seconds."""
    timbres, centre, level, chance, figures = PARTS[part]
    timbre = {name: float(x) for name, x in re.findall(r"(\w+)=(\S+)", TIMBRES[rng.choice(timbres.split())])}
    timbre["tilt"], level = timbre["tilt"] * rng.uniform(0.8, 1.2), level * np.exp(rng.normal(0, 0.3))
    figures = rng.permutation(figures.split())
    step, sounds, last, resting = times[0, 4] / 4, {}, centre, rng.random(len(times)) > chance**0.5
    for bar, steps in enumerate(times):
        figure = "" if resting[bar // 4] else rng.choice(figures, p=(0.8, 0.2))
        for note in re.finditer(r"[^.-]-*", figure):
            pitches = _pitches(note[0][0], harmony[bar % len(harmony)], scale, centre, last, rng)
            last, key = pitches[0], (pitches, len(note[0]))
            if key not in sounds:
                sounds[key] = _tone(np.add(pitches, tuning), len(note[0]) * step, sr, rng, **timbre)
            yield steps[note.start()], sounds[key], level


def _drum_along(kit, times, sr, rng):
    """Yield the hits of the drums as `_play` does."""
    tune, resting = rng.uniform(0.85, 1.2), rng.random(len(times)) < 0.12
    for name, pattern in re.findall(r"(\S+) (\S+)", KITS.get(kit, "")):
        sound, level = _drum(name, tune, sr, rng), np.exp(rng.normal(-0.2, 0.25))
        for bar, steps in enumerate(times):
            fill = "oxxX" if name == "snare" and bar % 4 == 3 and rng.random() < 0.6 else pattern[12:]
            for second, sign in zip(steps, pattern[:12] + fill, strict=True):
                if sign != "." and not resting[bar // 4] and rng.random() > 0.03:
                    yield second, sound, level * ".oxX".index(sign) / 3


def _record(y, cutoff, reverb, swell, sr, rng):
    """Turn the mix into a recording: its loudness comes and goes, in a room, on a tape that hisses."""
    from scipy.signal import oaconvolve

    y *= np.interp(np.arange(y.size) / sr, np.arange(1000) * 4, 1 - swell * rng.random(1000))
    t = np.arange(round(reverb * rng.uniform(0.6, 1.6) * sr)) / sr
    room = rng.standard_normal(t.size) * np.exp(-6.9 * t / t[-1])
    room *= rng.uniform(0.05, 0.4) / np.sqrt((room**2).sum())
    room[sr // 200] += 1
    cutoff *= np.exp(rng.normal(0, 0.3))
    low_pass = 1 / (1 + (np.fft.rfftfreq(2 * t.size, 1 / sr) / cutoff) ** 4)
    room = np.fft.irfft(np.fft.rfft(room, 2 * t.size) * low_pass)[: t.size].astype(np.float32)
    y = oaconvolve(y, room)[: y.size]
    y /= rng.uniform(2.5, 5) * y.std() + 1e-6
    return np.tanh(y) + 10 ** rng.uniform(-3.5, -2.3) * rng.standard_normal(y.size, dtype=np.float32)


def compose(genre: str, number: int, *, seed: int = 0, sr: int = 22050, seconds: float = 30.0) -> np.ndarray:
    """Compose one track; the same arguments give the same track.

    Parameters
    ----------
    genre : str
        One of `GENRES`.
    number, seed : int, >= 0
        Which track of the genre, and of which collection.
    sr : int, in [8000, 192000]
        Sampling rate in Hz.
    seconds : float, in (0, 3600]
        Length; the track is an excerpt that starts and ends mid-song.

    Returns
    -------
    y : np.ndarray, shape (round(seconds * sr),), float32
        Finite, with a peak in [0.45, 0.95].

    Raises
    ------
    ParameterError
        If an argument is out of range or the track would have no sample.
    """
    if genre not in GENRES:
        raise ParameterError("genre", genre, f"one of {', '.join(GENRES)}")
    if not 8000 <= sr <= 192000:
        raise ParameterError("sr", sr, "from 8000 to 192000 Hz")
    if not (0 < seconds <= 3600 and round(seconds * sr)):
        raise ParameterError("seconds", seconds, "from one sample to 3600 s")
    rng = np.random.default_rng([seed, GENRES.index(genre), number])
    slow, fast, swing, cutoff, reverb, swell, kits, players, songs = STYLES[genre]
    guest = STYLES[rng.choice(GENRES)]
    kits = guest[6] if rng.random() < BORROW else kits
    cutoff, reverb = guest[3:5] if rng.random() < BORROW else (cutoff, reverb)
    parts = [part for i, part in enumerate(players.split()) if i == 0 or rng.random() < PARTS[part][3]]
    parts += [rng.choice(guest[7].split())] if rng.random() < BORROW else []
    scale, *chords = rng.choice(songs.split(" | ")).split()
    key, tuning = int(rng.integers(12)), rng.normal(0, 0.1)
    chords = [re.findall(r"^(b?[IV]+)(.*)$", chord)[0] for chord in chords]
    harmony = [[key + DEGREES[degree] + tone for tone in CHORDS[kind]] for degree, kind in chords]
    scale = [(key + tone) % 12 for tone in SCALES[scale]]
    beat, lead, swing = 60 / rng.uniform(slow, fast), rng.uniform(0.5, 3), swing + rng.uniform(0, 0.03)
    bars = rng.normal(1, 0.005, int((seconds + lead) / beat / 4) + 3)[:, None] * beat
    within = np.add.outer(np.arange(4), [0, swing / 2, swing, (1 + swing) / 2]).ravel()
    times = (np.cumsum(bars, axis=0) - bars) * 4 + bars * within  # shape (n_bars, 16), in seconds
    band = [_play(part, times, harmony, scale, tuning, sr, rng) for part in parts]
    band.append(_drum_along(rng.choice(kits.split()), times, sr, rng))
    y = np.zeros(round((seconds + lead) * sr), np.float32)
    for second, sound, level in (note for player in band for note in player):
        start = max(0, round((second + rng.normal(0, 0.004)) * sr))  # the timing of a good player
        sound = sound[: max(0, y.size - start)]
        y[start : start + sound.size] += level * rng.uniform(0.8, 1) * sound
    y = _record(y, cutoff, reverb, swell, sr, rng)[-round(seconds * sr) :]
    return (rng.uniform(0.45, 0.95) / np.abs(y).max() * y).astype(np.float32)


def _write(path: Path, number: int, seed: int, sr: int, seconds: float) -> None:
    import soundfile

    y = compose(path.parent.name, number, seed=seed, sr=sr, seconds=seconds)
    with replacing(path) as file:
        soundfile.write(file, y, sr, format="WAV", subtype="PCM_16")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write synthetic tracks of ten genres as <folder>/<genre>/<genre>.00000.wav and so on."""
    example = "example: python -m render.demo genres/ --tracks 5"
    parser = argparse.ArgumentParser("python -m render.demo", description=main.__doc__, epilog=example)
    parser.add_argument("folder", type=Path, help="where to write the genre folders; files that exist are kept")
    parser.add_argument("--tracks", type=int, default=20, help="tracks a genre (default: 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a track (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other music (default: 0)")
    parser.add_argument("--sr", type=int, default=22050, help="sampling rate in Hz (default: 22050)")
    parser.add_argument("--jobs", type=int, default=-1, help="processes (default: -1, one a core)")
    args = parser.parse_args(argv)
    limits = {"tracks": (1, 100000), "seconds": (0.001, 3600), "seed": (0, 2**63), "sr": (8000, 192000)}
    for name, (low, high) in {**limits, "jobs": (-1, 1024)}.items():
        if not low <= getattr(args, name) <= high:
            raise ParameterError(name, getattr(args, name), f"from {low} to {high}")
    import joblib

    all_tracks = [(args.folder / name / f"{name}.{i:05d}.wav", i) for name in GENRES for i in range(args.tracks)]
    try:
        missing = [(path, i) for path, i in all_tracks if not path.exists()]
        jobs = max(1, min(joblib.effective_n_jobs(args.jobs or -1), len(missing)))
        tasks = (joblib.delayed(_write)(path, i, args.seed, args.sr, args.seconds) for path, i in missing)
        done = joblib.Parallel(jobs, return_as="generator_unordered")(tasks)
        written = sum(1 for _ in progress(done, total=len(missing), desc="composing", unit="track"))
    except OSError as error:
        raise MelvisionError(
            f"{args.folder}: cannot be written ({error}); free space or choose another folder"
        ) from error
    print(
        f"{args.folder}: {written} tracks written, {len(all_tracks) - written} existed; all synthetic, not real music"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
