"""How each step grows to 100 000 pictures: seconds, and memory a picture.

    python -m benchmarks.large FOLDER [--n 100000]

Makes `n` small pictures of noise in ten genres under FOLDER/pictures-N, no two equal, each 64 frames
that say they span 30 s (those that are there already are kept; 1.2 GB for 100 000); one of fifty is
the one before it, two seconds later and with other noise on top. Then measures

- `split_folder` on all of them: listing, hashing, assigning splits, writing the links;
- the same again, with every hash known;
- `read_folder` of a tenth and of all, each in its own process, with the `PixelStore`'s limit
  of memory set so low that pixels go to its file: the growth of what is no file's copy (RssAnon) a
  picture, after reading and after a pass over all pixels, and of the peak of all (VmHWM). Linux only;
- `inspect_folder`, what vision.check does, of a tenth and of all: seconds, those of the search for
  near-duplicates, which of the planted ones it finds, and the peak of memory;
- `python -m vision.predict` of a tenth and of all with a small network, as a table;
- `python -m vision.train`, one epoch of the quick recipe: the whole command, of it the epoch, and the peak of memory.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from render import png
from render.settings import Settings

GENRES = "blues classical country disco hiphop jazz metal pop reggae rock".split()
FRAMES = 64
#: Frames so far apart that `FRAMES` of them are 30 s: as wide as real tracks for the network.
SETTINGS = Settings(n_fft=16384, hop_length=22050 * 30 // FRAMES)
#: Bytes of pixels that the store keeps in memory here.
IN_MEMORY = 8 << 20


def name(number):
    """The path of a picture below its folder."""
    genre = GENRES[number % len(GENRES)]
    return f"{genre}/{genre}.{number // len(GENRES):05}.png"


def noise(number):
    """The levels of a picture: its own noise, or that of the picture before, later and changed a little."""
    rng = np.random.default_rng(number)
    if number % 50 != 49:
        return rng.integers(-80, 1, (SETTINGS.n_mels, FRAMES))
    levels = np.roll(noise(number - 1), -4, axis=1)
    levels[:, -4:] = rng.integers(-80, 1, (SETTINGS.n_mels, 4))
    return (levels + rng.integers(-3, 4, levels.shape)).clip(-80, 0)


def make(folder, numbers):
    """Draw the pictures that are missing, each of its own noise; returns how many."""
    colours, made = png.palette("magma"), 0
    for number in numbers:
        path = folder / name(number)
        if path.exists():
            continue
        levels = noise(number)
        source = {"name": path.name, "size": 0, "hash": f"{number:032x}"}
        png.write(path, levels.astype(np.float32), png.describe(SETTINGS, source, "magma"), colours=colours)
        made += 1
    return made


@contextmanager
def clocked(times, *functions):
    """Add up the seconds that functions take, and generators among them give, by name: (module, name) each."""
    originals = [getattr(*function) for function in functions]

    def clock(original):
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = original(*args, **kwargs)
            times[original.__name__] = times.get(original.__name__, 0) + time.perf_counter() - start
            return pull(iter(result), original.__name__) if hasattr(result, "__next__") else result

        return call

    def pull(result, name):
        while True:
            start = time.perf_counter()
            item = next(result, None)
            times[name] += time.perf_counter() - start
            if item is None:
                return
            yield item

    for (module, name), original in zip(functions, originals, strict=True):
        setattr(module, name, clock(original))
    try:
        yield
    finally:
        for (module, name), original in zip(functions, originals, strict=True):
            setattr(module, name, original)


def split(pictures, data):
    """Split or bring up to date, and tell how long each part took; returns seconds apart from hashing."""
    from vision.data import survey
    from vision.splits import folder
    from vision.splits.folder import split_folder

    times, start = {}, time.perf_counter()
    parts = [(folder, "_scan"), (folder, "assign_splits"), (folder, "_write"), (survey, "hash_pictures")]
    with clocked(times, *parts):
        result = split_folder(pictures, data)
    total = time.perf_counter() - start
    hashing = times["hash_pictures"]
    seconds_of = {
        "listing": times["_scan"] - hashing,
        "assigning": times["assign_splits"],
        "links and CSV": times["_write"],
    }
    seconds_of["the rest"] = total - hashing - sum(seconds_of.values())
    counts = f"{len(result.rows)} pictures, {len(result.new)} new, {len(result.problems)} problems"
    print(f"{counts}: {total:.1f} s, of it hashing {hashing:.1f}")
    shown = ", ".join(f"{part} {seconds:.1f}" for part, seconds in seconds_of.items())
    print(f"  apart from hashing {total - hashing:.1f} s: {shown}", flush=True)


def memory():
    """MiB of this process: the peak, and what is now its own and no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {name: int(status[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}


def read(folder, cache):
    """Read a folder as training does and print what it took, as JSON: run in a process of its own."""
    from vision.data import pixel_store
    from vision.data.dataset import list_pictures, read_folder
    from vision.data.preprocess import Preprocessor, learn_input_spec

    pixel_store.IN_MEMORY = IN_MEMORY
    start = time.perf_counter()
    spec = learn_input_spec(list_pictures(folder), size=128, window=10.0)
    pictures = read_folder(folder, Preprocessor(spec), cache=cache)
    measured = {"n": len(pictures.y), "seconds": time.perf_counter() - start, "read": memory()}
    measured["bytes"] = pictures.x.pixels.numel()
    pictures.x.mean_and_std()
    print(json.dumps(measured | {"used": memory()}))


def reading(folders, cache):
    """Memory a picture, of the difference between two folders."""
    code = "import sys\nfrom benchmarks.large import read\nread(*sys.argv[1:])"
    results = []
    for folder in folders:
        call = [sys.executable, "-c", code, str(folder), str(cache)]
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()})
        results.append(json.loads(done.stdout))
        last = results[-1]
        own, peak = last["read"]["RssAnon"], last["read"]["VmHWM"]
        line = f"{last['n']} pictures read in {last['seconds']:.1f} s: {last['bytes'] / 2**20:.0f} MiB"
        print(f"{line} of pixels in a file; memory {own:.0f} MiB of its own, peak of all {peak:.0f}", flush=True)
    few, many = results
    more = many["n"] - few["n"]

    def growth(when, what):
        return (many[when][what] - few[when][what]) * 2**20 / more

    print(f"growth a picture: {growth('read', 'RssAnon'):.0f} bytes of its own after reading,", end=" ")
    print(f"{growth('used', 'RssAnon'):.0f} after a pass over all pixels,", end=" ")
    print(f"{growth('read', 'VmHWM'):.0f} of the peak; its pixels are {many['bytes'] / many['n']:.0f}")


def in_process(call):
    """What a function of this module prints as JSON, called in a process of its own."""
    code = f"from benchmarks import large\nlarge.{call}"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE,
                                     env=environment).stdout.splitlines()[-1])  # fmt: skip


def check(folder):
    """Inspect a folder and print what it took, as JSON."""
    from vision.quality import inspect

    times, start = {}, time.perf_counter()
    with clocked(times, (inspect, "find_near_duplicates")):
        report = inspect.inspect_folder(folder)
    files = [info.file for info in report.pictures]
    found = {frozenset((files[pair.first], files[pair.second])) for pair in report.near}
    planted = {frozenset((name(n - 1), name(n))) for n in range(49, len(files), 50)}
    figures = {"n": len(files), "seconds": time.perf_counter() - start, "search": times["find_near_duplicates"]}
    figures |= {"planted": len(planted), "found": len(planted & found), "others": len(found - planted)}
    print(json.dumps(figures | {"peak": memory()["VmHWM"]}))


def checking(folders):
    """Print what inspecting each folder takes."""
    for folder in folders:
        one = in_process(f"check({str(folder)!r})")
        print(f"{one['n']} pictures checked in {one['seconds']:.0f} s, of it {one['search']:.0f} for near-duplicates: "
              f"{one['found']} of {one['planted']} planted ones and {one['others']} others; peak {one['peak']:.0f} MiB",
              flush=True)  # fmt: skip


def train_small(pictures, folder):
    """Train a small network on some of the pictures; returns its run folder."""
    some, run = folder / "some", folder / "run"
    for number in range(300):
        link = some / name(number)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(pictures / name(number), link)
    if not (run / "metrics.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        command = [sys.executable, "-m", "vision.train", "--images", str(some), "--data", str(folder / "some-data")]
        command += ["--recipe", "quick", "--no-texture", "--epochs", "1", "--out", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def train(data, out):
    """Train for one epoch and print what it took, as JSON."""
    from vision import train

    start = time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = train.main(["--data", data, "--recipe", "quick", "--epochs", "1", "--out", out])
    seconds = time.perf_counter() - start
    with open(Path(out) / "history.csv", newline="") as file:
        (epoch,) = csv.DictReader(file)
    scores = json.loads((Path(out) / "metrics.json").read_text())
    figures = {"code": code, "seconds": seconds, "epoch": float(epoch["seconds"]), "n_test": scores["test"]["n"]}
    print(json.dumps(figures | memory()))


def training(data, folder):
    """Print what an epoch of training takes."""
    out = folder / "run-all"
    shutil.rmtree(out, ignore_errors=True)
    one = in_process(f"train({str(data)!r}, {str(out)!r})")
    own, peak = one["RssAnon"], one["VmHWM"]
    print(f"trained in {one['seconds']:.0f} s, of it {one['epoch']:.0f} the epoch; {one['n_test']} test tracks scored,")
    print(f"  exit code {one['code']}; memory {own:.0f} MiB of its own at the end, peak of all {peak:.0f}", flush=True)


def predict(run, folder, table):
    """Predict a folder into a table and print what it took, as JSON."""
    from vision import predict

    start = time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = predict.main([run, folder, "--csv", table])
    with open(table) as file:
        rows = sum(1 for _ in file) - 1
    print(json.dumps({"code": code, "rows": rows, "seconds": time.perf_counter() - start} | memory()))


def predicting(folders, run, folder):
    """Print what predicting each folder takes."""
    for pictures in folders:
        table = folder / "predictions.csv"
        table.unlink(missing_ok=True)
        one = in_process(f"predict({str(run)!r}, {str(pictures)!r}, {str(table)!r})")
        each = f"{1000 * one['seconds'] / one['rows']:.1f} ms each"
        own, peak = one["RssAnon"], one["VmHWM"]
        print(f"{one['rows']} pictures predicted in {one['seconds']:.0f} s, {each}", end="; ")
        print(f"memory {own:.0f} MiB of its own at the end, peak of all {peak:.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where pictures, splits and the file of pixels go")
    parser.add_argument("--n", type=int, default=100_000, help="pictures, from 300 (default: 100000)")
    parts = ("split", "read", "check", "predict", "train")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="(default: all)")
    args = parser.parse_args()
    pictures, data, tenth = (args.folder / f"{name}-{args.n}" for name in ("pictures", "data", "tenth"))
    for folder in (data, tenth):
        shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    shares = [range(first, min(first + 1000, args.n)) for first in range(0, args.n, 1000)]
    made = sum(Parallel(n_jobs=-1)(delayed(make)(pictures, share) for share in shares))
    print(f"{made} of {args.n} pictures made in {time.perf_counter() - start:.1f} s", flush=True)
    for number in range(args.n // 10):
        link = tenth / name(number)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(pictures / name(number), link)
    if "split" in args.parts:
        split(pictures, data)
        split(pictures, data)
        print(f"peak memory of splitting: {memory()['VmHWM']:.0f} MiB")
    if "read" in args.parts:
        reading([tenth, pictures], args.folder)
    if "check" in args.parts:
        checking([tenth, pictures])
    if "predict" in args.parts:
        predicting([tenth, pictures], train_small(pictures, args.folder), args.folder)
    if "train" in args.parts:
        if not data.exists():
            split(pictures, data)
        training(data, args.folder)


if __name__ == "__main__":
    main()
