"""Audio to the feature table of the Kaggle GTZAN set: ``python -m render.features genres/``.

Rows of one track (``--segment``) must never be split between train and test: a classifier scored that way recognises
recordings, not genres. `vision.splits.keys.track_key` gives rows of one track the same key.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from render import atomic, workers
from render.audio import AudioError, content_hash, decode
from render.cli import command, print_notes_and_failures, progress
from render.errors import MelvisionError, ParameterError
from render.passed_over import PassedOver
from render.segments import Segments
from render.tracks import Track, find_tracks, folder_notes

SPREAD = "chroma_stft rms spectral_centroid spectral_bandwidth rolloff zero_crossing_rate harmony perceptr".split()
#: The columns of Kaggle's table, in its order.
COLUMNS = ["filename", "length", *(f"{name}_{part}" for name in SPREAD for part in ("mean", "var")), "tempo"]
COLUMNS += [*(f"mfcc{number}_{part}" for number in range(1, 21) for part in ("mean", "var")), "label"]
#: librosa's default window and hop, in samples.
N_FFT, HOP = 2048, 512
#: The table on disk is updated this often, or less often where writing it takes long.
SAVE_SECONDS = 15.0


def _merge(a: list[np.ndarray], b: list[np.ndarray]) -> list[np.ndarray]:
    """Merge two lists of arrays, sorted element by element, with Batcher's odd-even network (1968)."""
    if len(a) == 1:
        return [np.minimum(a[0], b[0]), np.maximum(a[0], b[0])]
    even, odd = _merge(a[::2], b[::2]), _merge(a[1::2], b[1::2])
    pairs = [pair for e, o in zip(even[1:], odd[:-1], strict=True) for pair in (np.minimum(e, o), np.maximum(e, o))]
    return [even[0], *pairs, odd[-1]]


def _median31(X: np.ndarray, lanes: int = 32) -> np.ndarray:
    """Return the values of ``scipy.ndimage.median_filter(X, (31, 1))`` thirty times as fast; `X` without NaN."""
    # Neighbouring windows share sorted runs, and `lanes` columns at a time stay in the CPU's cache.
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


def _tuning(power: np.ndarray, sr: int) -> float:
    """Return what `librosa.estimate_tuning` does, but skip the bins above 4 kHz, where it finds no pitches."""
    import librosa

    n_fft = 2 * min(len(power) - 1, 4000 * N_FFT // sr + 2)
    power, ref = power[: n_fft // 2 + 1], 0.1 * power.max(axis=0)
    return librosa.estimate_tuning(S=power, sr=sr * n_fft / N_FFT, ref=ref, bins_per_octave=12)


def _spectral_shape(S: np.ndarray, sr: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spectral centroid, bandwidth and roll-off of each frame of a magnitude spectrogram, in Hz."""
    hz = np.arange(len(S)) * (sr / N_FFT)
    total, first, second = np.stack([np.ones_like(hz), hz, hz**2]) @ S.astype(np.float64)
    total[total == 0] = 1
    bandwidth = np.sqrt(np.maximum(second / total - (first / total) ** 2, 0))
    energy = np.cumsum(S, axis=0)
    return first / total, bandwidth, hz[(energy < 0.85 * energy[-1]).sum(axis=0)]


def _istft(D: np.ndarray, window: np.ndarray, n_samples: int) -> np.ndarray:
    """Return what `librosa.istft` does, with the overlap-add done in whole hops."""
    from scipy import fft

    frames = fft.irfft(D.T, N_FFT) * window
    y, weight = np.zeros((2, len(frames) + N_FFT // HOP - 1, HOP), np.float32)
    for k in range(N_FFT // HOP):
        y[k : k + len(frames)] += frames[:, k * HOP : (k + 1) * HOP]
        weight[k : k + len(frames)] += window[k * HOP : (k + 1) * HOP] ** 2
    inner = slice(N_FFT // 2, N_FFT // 2 + n_samples)
    return y.ravel()[inner] / weight.ravel()[inner]


def measure(y: np.ndarray, *, sr: int) -> dict[str, float]:
    """Compute the features of a mono signal, with the values of librosa's functions.

    Parameters
    ----------
    y : np.ndarray, shape (n_samples,), float32
        Finite audio.
    sr : int, in Hz
        Its sampling rate.

    Returns
    -------
    features : dict of str to float
        Named as in `COLUMNS`, without filename, length and label. ``harmony`` and ``perceptr`` are of the samples
        of `librosa.effects.hpss`, ``tempo`` is that of `librosa.beat.beat_track`, 0 if there is no onset.

    Raises
    ------
    AudioError
        When `y` is shorter than a window or too large for finite features.
    """
    import librosa

    if len(y) < N_FFT:
        raise AudioError(f"is {len(y) / sr:.3f} s long, shorter than one window of {N_FFT / sr:.3f} s")
    with np.errstate(over="ignore", invalid="ignore"):  # an error says so
        D = librosa.stft(y, n_fft=N_FFT, hop_length=HOP)
        S = np.abs(D)
        power = S**2
    if not np.isfinite(power).all():
        raise AudioError("holds values too large for sound")
    S_db = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=sr))
    onsets = librosa.onset.onset_strength(S=S_db, sr=sr, aggregate=np.median)
    window = librosa.filters.get_window("hann", N_FFT).astype(np.float32)
    # As librosa.decompose.hpss: harmonic sound is smooth along time, percussive sound along frequency.
    harmonic = _median31(S.T).T ** 2
    both = _median31(S) ** 2 + harmonic
    mask = np.where(both > 0, harmonic / np.where(both > 0, both, 1), np.float32(0.5))
    values = [
        librosa.feature.chroma_stft(S=power, sr=sr, tuning=_tuning(power, sr)),
        librosa.feature.rms(y=y),
        *_spectral_shape(S, sr),
        librosa.feature.zero_crossing_rate(y),
        *(_istft(D * part, window, len(y)) for part in (mask, 1 - mask)),
        *librosa.feature.mfcc(S=S_db, n_mfcc=20),
    ]
    spread = [float(number) for value in values for number in (np.mean(value), np.var(value))]
    spread.insert(2 * len(SPREAD), librosa.feature.tempo(onset_envelope=onsets, sr=sr).item() if onsets.any() else 0.0)
    if not np.isfinite(spread).all():
        raise AudioError("holds values too large for sound")
    return dict(zip(COLUMNS[2:-1], spread, strict=True))


def _signals(track: Track, sr: int, segment: float | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, signal) of a track, or of each whole segment, so that a long file need not fit in memory."""
    if segment is None:
        yield track.path.name, np.concatenate(list(decode(track.path, sr=sr)))
        return
    for number, y in enumerate(Segments(segment).cut(decode(track.path, sr=sr), sr)):
        yield f"{track.track_id}.{number}{track.path.suffix}", y


def _measure_track(track: Track, made: dict, before: dict | None) -> tuple[str, dict | str]:
    """Return ("measured", entry), ("fresh", entry) if the content is that of `before`, or ("failed", reason)."""
    try:
        status = track.path.stat()
        digest = content_hash(track.path)
        entry = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "hash": digest, "made": made}
        if before and before["hash"] == digest:
            return "fresh", before | entry
        with warnings.catch_warnings(action="ignore"):  # librosa warns of silence
            sr, signals = made["sr"], _signals(track, made["sr"], made["segment"])
            entry["rows"] = [[name, len(y), *measure(y, sr=sr).values(), track.genre] for name, y in signals]
        after = track.path.stat()
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return "failed", "changed while it was read; run again once it is written"
        return "measured", entry
    except (AudioError, ValueError) as error:
        return "failed", str(error)
    except MemoryError:
        return "failed", "needs more memory than there is; set segment to 30 s to cut it up"
    except OSError as error:
        return "failed", f"cannot be read ({error.strerror or error})"


def _read_state(path: Path, made: dict) -> dict[str, dict]:
    """Return the entries of earlier runs with the same settings; a line cut off by a kill is skipped."""
    entries = {}
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["made"] == made and entry["rows"]:
                    entries[entry["track"]] = entry
    return entries


def _write_table(out: Path, results: dict[int, tuple[str, Any]]) -> None:
    entries = [entry for _, (status, entry) in sorted(results.items()) if status != "failed"]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(row for entry in entries for row in entry["rows"])])
    # Names that are not valid text are escaped, so that every program can read the table.
    data = text.getvalue().encode(errors="backslashreplace")
    if not out.exists() or out.read_bytes() != data:
        with atomic.replacing(out) as file:
            file.write(data)


def measure_folder(
    tracks: list[Track], root: str | Path, out: str | Path, made: dict[str, Any], *, jobs: int = -1, force: bool = False
) -> list[tuple[str, dict | str]]:
    """Write the table of all tracks; those that are in it already are not measured again.

    A file beside the table, ``<out>.state.jsonl``, holds what the next run needs to know.

    Parameters
    ----------
    tracks : list of Track
        From `find_tracks`.
    root : str or Path
        Their folder.
    out : str or Path
        CSV file to write.
    made : dict
        How rows are made: ``sr`` in Hz, ``segment`` in seconds or None, and ``librosa``, its version.
    jobs : int
        Number of processes; -1 is one a core.
    force : bool
        Measure everything again, and replace a table that melvision did not write.

    Returns
    -------
    results : list of (str, dict or str)
        One a track: ``"measured"`` or ``"fresh"`` and its entry (with ``rows``), or ``"failed"`` and the reason.

    Raises
    ------
    MelvisionError
        When `jobs` is out of range, or `out` is not a table of ours and `force` is not set.
    """
    workers.check_jobs(jobs)
    out, state = Path(out), Path(f"{out}.state.jsonl")
    if out.exists() and not state.exists() and not force:
        raise MelvisionError(
            f"{out}: exists and was not written by melvision; choose another file, or set force to replace it"
        )
    keys = [track.path.relative_to(root).as_posix() for track in tracks]
    results: dict[int, tuple[str, Any]] = {}
    before, next_save = {} if force else _read_state(state, made), time.monotonic() + SAVE_SECONDS
    for number, (track, key) in enumerate(zip(tracks, keys, strict=True)):
        with contextlib.suppress(OSError, KeyError):  # not measured before, or missing: `_measure_track` reports it
            status = track.path.stat()
            if (before[key]["size"], before[key]["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
                results[number] = "fresh", before[key]
    todo = [number for number in range(len(tracks)) if number not in results]
    tasks = [(tracks[number], made, before.get(keys[number])) for number in todo]
    atomic.clear_leftovers(out.parent)
    with atomic.replacing(state) as file:  # without entries of other settings and of removed tracks
        file.writelines(json.dumps(before[key]).encode() + b"\n" for key in keys if key in before)
    with open(state, "ab", buffering=0) as file:  # one write a line, so that two runs at once do not mix theirs
        done = workers.run(_measure_track, tasks, workers.count_jobs(jobs, len(tasks)), first_alone=True)
        for task, result in progress(done, total=len(tasks), desc="features", unit="track"):
            number = todo[task]
            results[number] = ("failed", result.reason) if isinstance(result, workers.TaskFailed) else result
            if results[number][0] != "failed":
                results[number][1]["track"] = keys[number]
                file.write(b"\n" + json.dumps(results[number][1]).encode())
            if (start := time.monotonic()) > next_save:
                _write_table(out, results)
                # Writing takes at most a twentieth of the time.
                next_save = time.monotonic() + 20 * (time.monotonic() - start) + SAVE_SECONDS
    _write_table(out, results)
    return [results[number] for number in range(len(tracks))]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m render.features",
        description="Make a feature table like that of the Kaggle GTZAN set. Rows that are up to date are kept.",
        epilog="example: python -m render.features genres/ -o features_30_sec.csv",
    )
    parser.add_argument("genres", help="folder with one folder of audio a genre: genres/blues/blues.00000.wav")
    parser.add_argument("-o", "--out", help="CSV file (default: features_30_sec.csv; the number is that of --segment)")
    parser.add_argument("--segment", type=float, metavar="S", help="a row for each S seconds (default: one a track)")
    parser.add_argument("--sr", type=int, default=22050, metavar="HZ", help="sampling rate (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--force", action="store_true", help="measure all again, and replace a table made elsewhere")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a track failed."""
    args = get_parser().parse_args(argv)
    if not 1000 <= args.sr <= 192000:
        raise ParameterError("sr", args.sr, "from 1000 to 192000 Hz")
    length = 30 if args.segment is None else args.segment
    if not N_FFT <= length * args.sr < float("inf"):
        raise ParameterError("segment", args.segment, f"seconds, at least {N_FFT / args.sr:.3f}")
    out = args.out or f"features_{length:g}_sec.csv"
    start = time.monotonic()
    passed = PassedOver()
    tracks, empty, stray = find_tracks(args.genres, passed)
    print_notes_and_failures(folder_notes(args.genres, empty, stray) + passed.notes(args.genres), passed.failures())
    made = {"sr": args.sr, "segment": args.segment, "librosa": importlib.metadata.version("librosa")}
    try:
        results = measure_folder(tracks, args.genres, out, made, jobs=args.jobs, force=args.force)
    except OSError as error:
        raise MelvisionError(f"{out}: cannot be written ({error.strerror or error}); choose another file") from None
    outcomes = zip(tracks, results, strict=True)
    print_notes_and_failures(
        failures=[f"{track.path}: {why}" for track, (status, why) in outcomes if status == "failed"]
    )
    n = Counter(status for status, _ in results)
    counts = f"{n['measured']} measured, {n['fresh']} fresh already, {n['failed']} failed"
    print(f"{len(tracks)} tracks: {counts} in {time.monotonic() - start:.1f} s -> {out}")
    return 1 if n["failed"] or passed.unreadable else 0


if __name__ == "__main__":
    # Other processes find a function by its module's name, which must not be "__main__".
    sys.exit(importlib.import_module("render.features").main())
