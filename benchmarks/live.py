"""Cost of predicting a stream: milliseconds of computing for each second of audio, on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.live RUN AUDIO [--rounds 3] [--seconds 60]

AUDIO, repeated where it is short, goes through `vision.inference.stream.predict_stream` in blocks of a second, as from
``vision.predict --stdin`` and `vision.listen`. The first seconds, in which the buffer is not full, are not counted.
The parts are timed too:

transform  change the sampling rate, compute the new Mel frames
draw       decibels of the whole buffer, resized to the network's input
network    probabilities of one window
"""

import argparse
import os
import statistics
import time
from pathlib import Path

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import soundfile

from benchmarks.timing import machine, spread
from vision.inference.device import use_threads
from vision.inference.predictor import Predictor
from vision.inference.stream import predict_stream


class Timed:
    """An object whose methods are timed.

    Parameters
    ----------
    target : object
        Gets all calls.
    methods : dict of str to str
        Methods to time, and the name of the part that each is.
    seconds : dict of str to list of float
        Where the times of each part go.
    """

    def __init__(self, target, methods, seconds):
        self._target, self._methods, self._seconds = target, methods, seconds

    def __getattr__(self, name):
        value = getattr(self._target, name)
        return self._timed(self._methods[name], value) if name in self._methods else value

    def _timed(self, part, method):
        def call(*args):
            start = time.perf_counter()
            result = method(*args)
            self._seconds.setdefault(part, []).append(time.perf_counter() - start)
            return result

        return call


def warm_seconds(spec):
    """Seconds until the buffer is full."""
    return int(max(spec.typical_seconds, spec.window or 0)) + 1


def measure(predictor, y, sr):
    """Seconds for each second of audio, processor time for one, and the seconds of each part."""
    parts = {}
    timed = Timed(predictor, {"probabilities": "network"}, parts)
    timed.preprocessor = Timed(predictor.preprocessor, {"from_values": "draw"}, parts)
    warm = warm_seconds(predictor.spec)
    seconds, processor, last = [], 0.0, time.perf_counter()
    blocks = (y[start : start + sr] for start in range(0, len(y) - sr + 1, sr))
    for number, _ in enumerate(predict_stream(timed, blocks, sr)):
        if number == warm:
            processor = time.process_time()
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    processor = time.process_time() - processor
    parts = {name: values[warm + 1 :] for name, values in parts.items()}
    seconds = seconds[warm + 1 :]
    parts["transform"] = [total - sum(rest) for total, *rest in zip(seconds, *parts.values(), strict=False)]
    return seconds, processor / len(seconds), parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("audio", type=Path, help="any music")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="seconds measured in each round (default: %(default)s)")
    args = parser.parse_args()
    use_threads(1)
    predictor = Predictor(args.run, "cpu")
    y, sr = soundfile.read(args.audio, dtype="float32", always_2d=True)
    n = (args.seconds + warm_seconds(predictor.spec) + 1) * sr
    y = np.concatenate([y] * -(-n // len(y)))[:n]
    print(machine(predictor.device, "fp32"))
    print(f"{sr} Hz, {y.shape[1]} channels; ms for a second of audio: median (range) of {args.seconds} seconds")
    for _ in range(args.rounds):
        seconds, processor, parts = measure(predictor, y, sr)
        ms = [1000 * value for value in seconds]
        shares = ", ".join(f"{name} {1000 * statistics.median(values):.1f}" for name, values in parts.items())
        rate = 1000 / statistics.median(ms)
        print(f"{spread(ms)}, processor time {1000 * processor:.1f}: {rate:.0f} times real time; {shares}")


if __name__ == "__main__":
    main()
