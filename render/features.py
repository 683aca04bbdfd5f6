"""Audio to the feature table of the Kaggle GTZAN set: ``python -m render.features genres/``.

Rows cut from one track (``--segment``) sound alike and must never be split between train and test: a classifier
scored that way recognises recordings, not genres. `vision.groups.track_key` tells which rows belong together.
"""

import argparse
import contextlib
import csv
import importlib.metadata
import io
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from render import atomic, workers
from render.audio import AudioError, content_hash, decode
from render.cli import command, print_notes_and_failures, progress
from render.errors import MelvisionError
from render.tracks import find_tracks, folder_notes

SPREAD = "chroma_stft rms spectral_centroid spectral_bandwidth rolloff zero_crossing_rate harmony perceptr".split()
#: Kaggle's, in Kaggle's order.
COLUMNS = ["filename", "length", *(f"{name}_{part}" for name in SPREAD for part in ("mean", "var")), "tempo"]
COLUMNS += [*(f"mfcc{number}_{part}" for number in range(1, 21) for part in ("mean", "var")), "label"]
#: librosa's default window and hop, in samples.
N_FFT, HOP = 2048, 512
SAVE_SECONDS = 15.0  #: The table on disk grows this often, or less where writing it takes long.


def _merge(a, b):
    """Batcher's network: two sorted lists of arrays to one, element by element."""
    if len(a) == 1:
        return [np.minimum(a[0], b[0]), np.maximum(a[0], b[0])]
    even, odd = _merge(a[::2], b[::2]), _merge(a[1::2], b[1::2])
    pairs = [pair for e, o in zip(even[1:], odd[:-1], strict=True) for pair in (np.minimum(e, o), np.maximum(e, o))]
    return [even[0], *pairs, odd[-1]]


def _median31(X, lanes=32):
    """``scipy.ndimage.median_filter(X, (31, 1))``, the same values thirty times as fast; `X` without NaN."""
    # Neighbouring windows share what they have sorted, and few columns at a time stay in the cache.
    n = len(X)
    medians, half = np.empty_like(X), (n + 1) // 2
    padded = np.pad(X, ((15, 15 + n % 2), (0, 0)), mode="symmetric")
    for lane in range(0, X.shape[1], lanes):
        columns = slice(lane, lane + lanes)
        first, second = (np.ascontiguousarray(padded[start::2, columns]) for start in (0, 1))
        runs, shift = _merge([first], [second]), 1
        while len(runs) < 16:  # 2, 4, 8, 16 sorted values from every other position on
            runs, shift = _merge([run[:-shift] for run in runs], [run[shift:] for run in runs]), 2 * shift
        # Two runs make 32 values, of which `low` and `high` are the middle two; both windows of 31
        # in them lack one value, and its side tells which of the two is the median.
        pairs = [(a[:-8], b[8:]) for a, b in zip(runs, reversed(runs), strict=True)]
        low, high = np.minimum(*pairs[0]), np.maximum(*pairs[0])
        for a, b in pairs[1:]:
            np.maximum(low, np.minimum(a, b), out=low)
            np.minimum(high, np.maximum(a, b), out=high)
        medians[0::2, columns] = np.where(second[15:] <= low, high, low)
        medians[1::2, columns] = np.where(first[:half] <= low, high, low)[: n // 2]
    return medians


def _tuning(power, sr):
    """`librosa.estimate_tuning`, without transforming the bins above 4 kHz: it takes no pitches from them."""
    import librosa

    n_fft = 2 * min(len(power) - 1, 4000 * N_FFT // sr + 2)
    power, ref = power[: n_fft // 2 + 1], 0.1 * power.max(axis=0)
    return librosa.estimate_tuning(S=power, sr=sr * n_fft / N_FFT, ref=ref, bins_per_octave=12)


def _shape(S, sr):
    """Spectral centroid, bandwidth and roll-off of a magnitude spectrogram: a value a frame each."""
    hz = np.arange(len(S)) * (sr / N_FFT)
    total, first, second = np.stack([np.ones_like(hz), hz, hz**2]) @ S.astype(np.float64)
    total[total == 0] = 1
    bandwidth = np.sqrt(np.maximum(second / total - (first / total) ** 2, 0))
    energy = np.cumsum(S, axis=0)
    return first / total, bandwidth, hz[(energy < 0.85 * energy[-1]).sum(axis=0)]


def _signal(D, window, n_samples):
    """`librosa.istft`, overlapped and added by whole hops."""
    from scipy import fft

    frames = fft.irfft(D.T, N_FFT) * window
    y, weight = np.zeros((2, len(frames) + N_FFT // HOP - 1, HOP), np.float32)
    for k in range(N_FFT // HOP):
        y[k : k + len(frames)] += frames[:, k * HOP : (k + 1) * HOP]
        weight[k : k + len(frames)] += window[k * HOP : (k + 1) * HOP] ** 2
    inner = slice(N_FFT // 2, N_FFT // 2 + n_samples)
    return y.ravel()[inner] / weight.ravel()[inner]


def measure(y, *, sr):
    """The features of a mono signal at `sr`, as librosa's functions give them.

    Parameters
    ----------
    y : np.ndarray, shape (n_samples,), float32
        Finite audio. ValueError where it is shorter than a window or too large for finite features.

    Returns
    -------
    features : dict of str to float
        Named as in `COLUMNS`, without filename, length and label. ``harmony`` and ``perceptr`` are of the samples
        of `librosa.effects.hpss`, ``tempo`` is that of `librosa.beat.beat_track`: 0 where nothing begins.
    """
    import librosa

    if len(y) < N_FFT:
        raise ValueError(f"is {len(y) / sr:.3f} s long, shorter than one window of {N_FFT / sr:.3f} s")
    D = librosa.stft(y, n_fft=N_FFT, hop_length=HOP)
    S = np.abs(D)
    power = S**2
    S_db = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=sr))
    onsets = librosa.onset.onset_strength(S=S_db, sr=sr, aggregate=np.median)
    window = librosa.filters.get_window("hann", N_FFT).astype(np.float32)
    # librosa.decompose.hpss: what is smooth along time is harmonic, what is smooth along frequency percussive.
    harmonic = _median31(S.T).T ** 2
    both = _median31(S) ** 2 + harmonic
    mask = np.where(both > 0, harmonic / np.where(both > 0, both, 1), np.float32(0.5))
    values = [
        librosa.feature.chroma_stft(S=power, sr=sr, tuning=_tuning(power, sr)),
        librosa.feature.rms(y=y),
        *_shape(S, sr),
        librosa.feature.zero_crossing_rate(y),
        *(_signal(D * part, window, len(y)) for part in (mask, 1 - mask)),
        *librosa.feature.mfcc(S=S_db, n_mfcc=20),
    ]
    spread = [float(number) for value in values for number in (np.mean(value), np.var(value))]
    spread.insert(2 * len(SPREAD), librosa.feature.tempo(onset_envelope=onsets, sr=sr).item() if onsets.any() else 0.0)
    if not np.isfinite(spread).all():
        raise ValueError("holds values too large for sound")
    return dict(zip(COLUMNS[2:-1], spread, strict=True))


def _signals(track, sr, segment):
    """Yield (name, signal) of a track, or of its whole segments one by one: a long file is not held in memory."""
    if segment is None:
        yield track.path.name, np.concatenate(list(decode(track.path, sr=sr)))
        return
    size, number, rest = round(segment * sr), 0, np.zeros(0, np.float32)
    for piece in decode(track.path, sr=sr):
        rest = np.concatenate([rest, piece])
        while len(rest) >= size:
            yield f"{track.track_id}.{number}{track.path.suffix}", rest[:size]
            number, rest = number + 1, rest[size:]
    if number == 0:
        raise AudioError(f"is {len(rest) / sr:.2f} s long, shorter than one segment of {segment:g} s")


def _measure_track(track, made, before):
    """A track's entry, and whether it is "measured" anew or "fresh", being `before`; or ("failed", why)."""
    try:
        status = track.path.stat()
        digest = content_hash(track.path)
        entry = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "hash": digest, "made": made}
        if before and before["hash"] == digest:
            return "fresh", before | entry
        with warnings.catch_warnings(action="ignore"):  # librosa's, about silence
            signals, sr = _signals(track, made["sr"], made["segment"]), made["sr"]
            entry["rows"] = [[name, len(y), *measure(y, sr=sr).values(), track.genre] for name, y in signals]
        after = track.path.stat()
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return "failed", "changed while it was read; run again once it is written"
        return "measured", entry
    except (AudioError, ValueError) as error:
        return "failed", str(error)
    except MemoryError:
        return "failed", "needs more memory than there is; cut it up with --segment 30"
    except OSError as error:
        return "failed", f"cannot be read ({error.strerror or error})"


def _read_state(path, made):
    """The entries of earlier runs that measured in the same way; a line that a kill cut off is passed over."""
    entries = {}
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["made"] == made and entry["rows"]:
                    entries[entry["track"]] = entry
    return entries


def _write_table(out, results):
    entries = [entry for _, (status, entry) in sorted(results.items()) if status != "failed"]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(row for entry in entries for row in entry["rows"])])
    # Names that are no text are escaped, so that every program can read the table.
    data = text.getvalue().encode(errors="backslashreplace")
    if not out.exists() or out.read_bytes() != data:
        with atomic.replacing(out) as file:
            file.write(data)


def measure_folder(tracks, root, out, made, *, jobs=-1, force=False):
    """Write the table of all tracks, measuring what is not in it; beside it lies what the next run needs to know.

    Parameters
    ----------
    tracks, root, out : list of Track, str or Path, str or Path
        From `find_tracks`; their folder; the CSV file.
    made : dict
        How: ``sr`` in Hz, ``segment`` in seconds or None, and ``librosa``, its version.

    Returns
    -------
    results : list of (str, dict or str)
        One a track: ``"measured"`` or ``"fresh"`` and its entry (with ``rows``), or ``"failed"`` and why.
    """
    out, state = Path(out), Path(f"{out}.state.jsonl")
    if out.exists() and not state.exists() and not force:
        raise MelvisionError(f"{out}: was not written by melvision; choose another with -o, or --force replaces it")
    keys = [track.path.relative_to(root).as_posix() for track in tracks]
    results, known, due = {}, {} if force else _read_state(state, made), time.monotonic() + SAVE_SECONDS
    for number, (track, key) in enumerate(zip(tracks, keys, strict=True)):
        with contextlib.suppress(OSError, KeyError):  # not known, or vanished: measuring it will say so
            status = track.path.stat()
            if (known[key]["size"], known[key]["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
                results[number] = "fresh", known[key]
    todo = [number for number in range(len(tracks)) if number not in results]
    tasks = [(tracks[number], made, known.get(keys[number])) for number in todo]
    atomic.clear_leftovers(out.parent)
    with atomic.replacing(state) as file:  # without what changed settings and removed tracks left in it
        file.writelines(json.dumps(known[key]).encode() + b"\n" for key in keys if key in known)
    with open(state, "ab", buffering=0) as file:  # one write a line: two runs at once do not mix theirs
        done = workers.run(_measure_track, tasks, workers.count_jobs(jobs, len(tasks)))
        for task, result in progress(done, total=len(tasks), desc="features", unit="track"):
            number = todo[task]
            results[number] = ("failed", result.reason) if isinstance(result, workers.Lost) else result
            if results[number][0] != "failed":
                results[number][1]["track"] = keys[number]
                file.write(b"\n" + json.dumps(results[number][1]).encode())
            if (start := time.monotonic()) > due:
                _write_table(out, results)
                due = 21 * time.monotonic() - 20 * start + SAVE_SECONDS
    _write_table(out, results)
    return [results[number] for number in range(len(tracks))]


def get_parser():
    parser = argparse.ArgumentParser(
        prog="python -m render.features",
        description="Make the feature table of the Kaggle GTZAN set. Rows that are in it already are kept.",
        epilog="example: python -m render.features genres/ -o features_30_sec.csv",
    )
    parser.add_argument("genres", help="folder with one folder of audio a genre: genres/blues/blues.00000.wav")
    parser.add_argument("-o", "--out", help="CSV file (default: features_30_sec.csv, or so, for --segment)")
    parser.add_argument("--segment", type=float, metavar="S", help="a row for each S seconds (default: one a track)")
    parser.add_argument("--sr", type=int, default=22050, metavar="HZ", help="sampling rate (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--force", action="store_true", help="measure all anew, and replace tables made elsewhere")
    return parser


@command
def main(argv=None):
    """Run the command; returns 0, or 1 when a track failed."""
    args = get_parser().parse_args(argv)
    if args.jobs == 0 or args.jobs < -1:
        raise MelvisionError(f"--jobs {args.jobs}: expected a number of processes, or -1 for one a core")
    if not 1000 <= args.sr <= 192000:
        raise MelvisionError(f"--sr {args.sr}: expected 1000 to 192000 Hz")
    length = 30 if args.segment is None else args.segment
    if not N_FFT <= length * args.sr < float("inf"):
        raise MelvisionError(f"--segment {length:g}: expected seconds, {N_FFT / args.sr:.3f} at least")
    out = args.out or f"features_{length:g}_sec.csv"
    start = time.monotonic()
    tracks, empty, stray = find_tracks(args.genres)
    print_notes_and_failures(folder_notes(args.genres, empty, stray))
    made = {"sr": args.sr, "segment": args.segment, "librosa": importlib.metadata.version("librosa")}
    try:
        results = measure_folder(tracks, args.genres, out, made, jobs=args.jobs, force=args.force)
    except OSError as error:
        raise MelvisionError(
            f"{out}: cannot be written ({error.strerror or error}); choose another file with -o"
        ) from None
    outcomes = zip(tracks, results, strict=True)
    print_notes_and_failures(
        failures=[f"{track.path}: {why}" for track, (status, why) in outcomes if status == "failed"]
    )
    n = Counter(status for status, _ in results)
    told = f"{n['measured']} measured, {n['fresh']} fresh already, {n['failed']} failed"
    print(f"{len(tracks)} tracks: {told} in {time.monotonic() - start:.1f} s -> {out}")
    return 1 if n["failed"] else 0


if __name__ == "__main__":
    # Other processes find a function by its module's name, which must not be "__main__".
    sys.exit(importlib.import_module("render.features").main())
