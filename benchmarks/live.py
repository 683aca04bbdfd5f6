"""What live prediction costs: milliseconds of computing for each second of audio, on one core.

    OMP_NUM_THREADS=1 python benchmarks/live.py RUN AUDIO [--rounds 3] [--seconds 60]

AUDIO, repeated where it is short, goes through `stream.live` a second at a time, as `--stdin` and
`vision.listen` give it. The first seconds, in which less is heard than later, are not counted. Each part is
timed by itself too:

hear       change the rate, transform the new frames
draw       decibels of all that is heard, resized to the network's input
network    probabilities of one window
"""

import argparse
import os
import statistics
import time
from pathlib import Path

# Before torch is there.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import soundfile

from benchmarks.timing import machine, spread
from vision.inference.device import use_threads
from vision.inference.predictor import Predictor
from vision.inference.stream import live


class Timed:
    """A predictor whose parts are timed."""

    def __init__(self, predictor):
        self._predictor = predictor
        self.took = {"draw": [], "network": []}

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def _time(self, part, call, *args):
        start = time.perf_counter()
        found = call(*args)
        self.took[part].append(time.perf_counter() - start)
        return found

    def draw(self, values):
        return self._time("draw", self._predictor.draw, values)

    def probabilities(self, x):
        return self._time("network", self._predictor.probabilities, x)


def measure(predictor, y, sr):
    """Seconds that each second of audio took, processor time of all, and each part's share."""
    timed = Timed(predictor)
    warm = int(max(predictor.spec.typical_seconds, predictor.spec.window or 0)) + 1
    took, used, last = [], 0.0, time.perf_counter()
    for number, _ in enumerate(live(timed, (y[at : at + sr] for at in range(0, len(y) - sr + 1, sr)), sr)):
        if number == warm:
            used = time.process_time()
        now = time.perf_counter()
        took.append(now - last)
        last = now
    used = time.process_time() - used
    parts = {name: values[warm + 1 :] for name, values in timed.took.items()}
    took = took[warm + 1 :]
    parts["hear"] = [all_ - sum(rest) for all_, *rest in zip(took, *parts.values(), strict=False)]
    return took, used / len(took), parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("audio", type=Path, help="any music")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="measured a round, besides what is heard first")
    args = parser.parse_args()
    use_threads(1)
    predictor = Predictor(args.run, "cpu")
    y, sr = soundfile.read(args.audio, dtype="float32", always_2d=True)
    n = (args.seconds + int(max(predictor.spec.typical_seconds, predictor.spec.window or 0)) + 2) * sr
    y = np.concatenate([y] * -(-n // len(y)))[:n]
    print(machine(predictor.device, "fp32"))
    print(f"{sr} Hz, {y.shape[1]} channels; ms for a second of audio: median (range) of {args.seconds} seconds")
    for _ in range(args.rounds):
        took, used, parts = measure(predictor, y, sr)
        ms = [1000 * value for value in took]
        shares = ", ".join(f"{name} {1000 * statistics.median(values):.1f}" for name, values in parts.items())
        print(f"{spread(ms)}, processor time {1000 * used:.1f}: {1000 / statistics.median(ms):.0f} times real time;"
              f" {shares}")  # fmt: skip


if __name__ == "__main__":
    main()
