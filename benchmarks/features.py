"""How fast a track's features are computed, against librosa's own functions one after the other.

    python benchmarks/features.py GENRES [--tracks 10]

In turns in one process with one thread; the values are compared too.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import librosa

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
    for name, found in (("librosa", theirs[1:]), ("ours", ours[1:])):  # the first compiles
        middle = statistics.median(found) * 1000
        print(f"{name:8} {middle:7.1f} ms a track ({min(found) * 1000:.1f} to {max(found) * 1000:.1f})")
    print(f"{statistics.median(theirs[1:]) / statistics.median(ours[1:]):.1f} times as fast")


if __name__ == "__main__":
    main()
