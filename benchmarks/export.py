"""Compare an exported file with the run that it was made of: size, speed, and time to the first prediction.

    python -m benchmarks.export RUN PICTURES [--rounds 5] [--limit 200] [--threads 1]

The run is exported to a temporary folder. Then, alternately:

windows a second     `Predictor.probabilities` of pictures decoded beforehand, by PyTorch and by ONNX Runtime
first prediction     ``python -m vision.predict RUN_OR_FILE PICTURE`` as a whole process: seconds by the clock,
                     and of processor time

and the largest difference between their probabilities. fp32, on the CPU.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.predict import processor_time
from benchmarks.timing import in_turns, machine, spread
from vision import export
from vision.data.folders import find_files
from vision.data.pixel_store import PixelStore
from vision.inference.device import use_threads
from vision.inference.predictor import Predictor
from vision.models import run_files


def size_of(run):
    """Bytes of a file, or of all models in a run folder or a folder of seeds."""
    models = [run] if run.is_file() else [*run.glob(run_files.MODEL), *run_files.seed_files(run, run_files.MODEL)]
    return sum(path.stat().st_size for path in models)


def in_memory(predictor, files):
    """Return the files that can be used, and the network's input for them."""
    good = [prediction.path for prediction in predictor.predict(files) if not prediction.error]
    pictures = (predictor.read(path).x for path in good)
    return good, PixelStore.collect(pictures, channels=predictor.spec.channels, height=predictor.spec.size)


def first_answers(run, file, picture, rounds):
    """Measure whole processes, alternately: wall-clock and processor seconds, two dicts by name."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    used = {"model.pt": [], "model.onnx": []}

    def predict(name, path):
        before = processor_time()
        call = [sys.executable, "-m", "vision.predict", str(path), str(picture), "--device", "cpu"]
        subprocess.run(call, check=True, capture_output=True, env=environment)
        used[name].append(processor_time() - before)

    clock = in_turns({"model.pt": lambda: predict("model.pt", run), "model.onnx": lambda: predict("model.onnx", file)},
                     rounds)  # fmt: skip
    return clock, {name: values[1:] for name, values in used.items()}


def print_comparison(name, original, exported, digits=1):
    """Print two lists of values, and the ratio of their medians."""
    ratio = statistics.median(exported) / statistics.median(original)
    print(f"{name:36} {spread(original, digits):28} {spread(exported, digits):28} {ratio:5.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=200, help="files to predict, spread over the folder")
    parser.add_argument("--threads", type=int, help="(default: torch's choice)")
    args = parser.parse_args()
    use_threads(args.threads)
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        start = time.perf_counter()
        if export.main([str(args.run), "-o", str(file)]):
            sys.exit(2)
        print(f"exporting took {time.perf_counter() - start:.1f} s")
        files = find_files([args.pictures])
        files = files[:: -(-len(files) // args.limit)]
        original, exported = Predictor(args.run, "cpu"), Predictor(file)
        good, x = in_memory(original, files)
        n = sum(len(x.starts(number)) for number in range(len(x)))
        times = in_turns({"a": lambda: original.probabilities(x), "b": lambda: exported.probabilities(x)}, args.rounds)
        difference = np.abs(original.probabilities(x) - exported.probabilities(x)).max()
        clock, used = first_answers(args.run, file, good[0], args.rounds)
        print(machine(torch.device("cpu"), "fp32"))
        print(f"{len(x)} files, {n} windows; {'':16} {'PyTorch':28} {'ONNX Runtime':28} ratio")
        print_comparison("size in MiB", [size_of(args.run) / 2**20], [file.stat().st_size / 2**20])
        print_comparison("windows a second", [n / value for value in times["a"]], [n / value for value in times["b"]])
        print_comparison("first prediction, s", clock["model.pt"], clock["model.onnx"])
        print_comparison("first prediction, s of processor time", used["model.pt"], used["model.onnx"])
        print(f"their probabilities differ by at most {difference:.1g}")


if __name__ == "__main__":
    main()
