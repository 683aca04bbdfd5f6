"""Speed of `render.features.measure`, compared with librosa's functions called one after the other.

    python -m benchmarks.features GENRES [--tracks 10]

Both take turns in one process with one thread; tests/render/test_features.py compares the values.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import librosa

from benchmarks.timing import spread
from render.features import measure
from tests.render.test_features import librosa_says


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genres", type=Path)
    parser.add_argument("--tracks", type=int, default=10)
    args = parser.parse_args()
    theirs, ours = [], []
    for path in sorted(args.genres.glob("*/*.wav"))[:: max(1, 50 // args.tracks)][: args.tracks + 1]:
        y, sr = librosa.load(path)
        start = time.perf_counter()
        librosa_says(y, sr)
        middle = time.perf_counter()
        measure(y, sr=sr)
        theirs.append(middle - start)
        ours.append(time.perf_counter() - middle)
    for name, seconds in (("librosa", theirs[1:]), ("ours", ours[1:])):  # without the first, which compiles
        print(f"{name:8} {spread([1000 * value for value in seconds])} ms a track")
    print(f"{statistics.median(theirs[1:]) / statistics.median(ours[1:]):.1f} times as fast")


if __name__ == "__main__":
    main()
