"""How fast a trained run predicts, against its network alone; and how long its first answer takes.

    python benchmarks/predict.py RUN PICTURES [--rounds 3] [--limit 500]

Windows a second over all pictures of a folder, in turns, fp32:

from files            `Predictor.predict`: open, decode, cut margins, colours to levels, resize, score
reading               the same without the network, on one core
from memory           pictures decoded beforehand: windows cut and brought to floats, then scored
network alone         the same windows as floats in memory, in batches of `engine.EVAL_BATCH`, each computed by all
                      threads: what no predictor can leave out
network, in workers   the same, each thread computing batches of its own, as large as those of `Predictor.predict`:
                      the least that two cores can take

Then `python -m vision.predict RUN PICTURE` as a whole process, several times: seconds by the clock and
of processor time, and, in one more run, which imports they go to (`python -X importtime`).
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from joblib import Parallel, delayed

from benchmarks.timing import in_turns, machine, spread
from vision.data.folders import find_files
from vision.data.pixel_store import (
    EVAL_BATCH,
    PixelStore,
    to_pixels,
)
from vision.inference.device import use_threads
from vision.inference.predictor import (
    CHUNK,
    Predictor,
)


def throughput(run, folder, limit, rounds, device):
    """Windows a second from files, from memory and of the network alone; returns a picture that works."""
    predictor = Predictor(run, device)
    files = find_files([folder])
    files = files[:: -(-len(files) // limit)]
    predictor.learn_margins(files)
    good = [prediction.path for prediction in predictor.predict(files) if prediction.p is not None]
    if not good:
        sys.exit(f"{folder}: none of its {len(files)} files can be predicted")
    pictures = (predictor.read(path).x for path in good)
    x = PixelStore.collect(pictures, channels=predictor.spec.channels, height=predictor.spec.size)
    windows = [(number, start) for number in range(len(x)) for start in x.starts(number)]
    threads = torch.get_num_threads()

    def batches(size):
        cut = [x.cut(*zip(*windows[at : at + size], strict=True)) for at in range(0, len(windows), size)]
        return [to_pixels(part, predictor.device) for part in cut]

    @torch.inference_mode()
    def score(pixels):
        for model in predictor.models:
            model(pixels).float().softmax(dim=1).cpu()

    def network():
        for pixels in large:
            score(pixels)

    def in_workers():
        torch.set_num_threads(1)
        Parallel(n_jobs=threads, prefer="threads")(delayed(score)(pixels) for pixels in small)
        torch.set_num_threads(threads)

    large, small = batches(EVAL_BATCH), batches(CHUNK * len(windows) // len(good))
    calls = {
        "from files": lambda: list(predictor.predict(good)),
        "reading": lambda: [predictor.read(path) for path in good],
        "from memory": lambda: predictor.probabilities(x),
        "network alone": network,
        "network, in workers": in_workers,
    }
    times = in_turns(calls, rounds)
    print(machine(predictor.device, "fp32"))
    print(f"{len(good)} files, {len(windows)} windows, {len(predictor.models)} models; windows a second, times the")
    print("network's time")
    base = statistics.median(times["network alone"])
    for name, seconds in times.items():
        rates = spread([len(windows) / value for value in seconds])
        print(f"{name:20} {rates:28} {statistics.median(seconds) / base:6.2f}")
    return good[0]


def start_up(run, picture, rounds):
    """How long one answer takes as a whole process."""
    call = ["-m", "vision.predict", str(run), str(picture)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}

    def predict(*options):
        return subprocess.run([sys.executable, *options, *call], check=True, capture_output=True, env=environment)

    predict()  # brings the files into the system's cache
    clock, used = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), processor_time()
        predict()
        clock.append(time.perf_counter() - start)
        used.append(processor_time() - before)
    print(f"\npython -m vision.predict RUN PICTURE: {spread(clock)} s, processor time {spread(used)} s")
    costs = imports(predict("-X", "importtime").stderr.decode(errors="replace"))
    print(f"imports took {sum(costs.values()):.1f} s when measured one by one; by package, without what each imports:")
    print(", ".join(f"{name} {seconds:.2f}" for name, seconds in costs.most_common(12)))


def processor_time():
    """Seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports(text):
    """Seconds a package, of what ``-X importtime`` prints."""
    costs = Counter()
    for line in text.splitlines():
        own, *_, name = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and own.strip().isdigit():
            costs[name.strip().split(".")[0]] += int(own) / 1e6
    return costs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500, help="files to predict, spread over the folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="(default: torch's choice)")
    args = parser.parse_args()
    use_threads(args.threads)
    picture = throughput(args.run, args.pictures, args.limit, args.rounds, args.device)
    start_up(args.run, picture, args.rounds)


if __name__ == "__main__":
    main()
