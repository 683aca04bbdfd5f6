"""How splitting and reading grow: 100 000 pictures, time apart from hashing, memory a picture.

    python -m benchmarks.large FOLDER [--n 100000]

Makes `n` small pictures of noise in ten genres under FOLDER/pictures-N, no two alike, each 64 frames
that say they span 30 s (those that are there already are kept; 1.2 GB for 100 000), then measures

- `split_folder` on all of them: listing, hashing, assigning splits, writing the links;
- the same again, with every hash known;
- `read_folder` of a tenth and of all, each in its own process, with the `PixelStore`'s limit
  of memory set so low that pixels go to its file: the growth of what is no file's copy (RssAnon) a
  picture, after reading and after a pass over all pixels, and of the peak of all (VmHWM). Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
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


def make(folder, numbers):
    """Draw the pictures that are missing, each of its own noise; returns how many."""
    colours, made = png.palette("magma"), 0
    for number in numbers:
        path = folder / name(number)
        if path.exists():
            continue
        levels = np.random.default_rng(number).integers(-80, 1, (SETTINGS.n_mels, FRAMES))
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where pictures, splits and the file of pixels go")
    parser.add_argument("--n", type=int, default=100_000, help="pictures, from 300 (default: 100000)")
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
    split(pictures, data)
    split(pictures, data)
    print(f"peak memory of splitting: {memory()['VmHWM']:.0f} MiB")
    reading([tenth, pictures], args.folder)


if __name__ == "__main__":
    main()
