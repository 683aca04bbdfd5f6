"""Fuzz test of `render.batch.draw`: draw thousands of damaged audio files.

    python -m benchmarks.fuzz --n 2000 --seed 0

Valid small WAV, AU, FLAC, Ogg and MP3 files are mutated: bits flipped, the end cut off, header fields
changed, blocks swapped and repeated, bytes put in. Each mutant must be drawn (a PNG that `png.read`
reads, all finite) or fail with one line and no PNG; none may crash its process, raise an exception, take
longer than 20 s or make a library print something. Prints the outcomes by format and kind of mutation;
keeps mutants that broke a rule and exits with 1 if there is any.
"""

import argparse
import collections
import io
import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile

from render import batch, cli, png, tracks, workers
from render.settings import Settings
from render.worker_process import Limits

FORMATS = {
    "wav": [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24")],
    "au": [("AU", "PCM_16"), ("AU", "ULAW"), ("AU", "FLOAT")],
    "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "ogg": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
}
LIMITS = Limits(cpu_seconds=20.0, wall_seconds=40.0)
SETTINGS = Settings()


def make_valid(seed):
    """Valid files of each format: a list of (ending, bytes)."""
    rng = np.random.default_rng(seed)
    files = []
    for ending, kinds in FORMATS.items():
        for container, subtype in kinds:
            for channels, sr in (1, 24000), (2, 48000):
                t = np.arange(sr // 2)[:, None] / sr
                y = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * rng.standard_normal((len(t), channels))
                file = io.BytesIO()
                soundfile.write(file, y.clip(-1, 1), sr, format=container, subtype=subtype)
                files.append((ending, file.getvalue()))
    return files


def flip_bits(data, rng):
    """Flip a few bits anywhere, or many."""
    for _ in range(int(rng.choice([1, 4, 64, 1024]))):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def flip_head_bits(data, rng):
    """Flip a few bits among the first 64 bytes."""
    for _ in range(rng.integers(1, 5)):
        data[rng.integers(min(64, len(data)))] ^= 1 << rng.integers(8)
    return data


def truncate(data, rng):
    """Cut off the end: anything from one byte to all but one."""
    return data[: rng.integers(1, len(data)) if rng.random() < 0.7 else rng.integers(1, 128)]


def change_field(data, rng):
    """Replace a number of 1, 2 or 4 bytes in the header with an extreme one."""
    size = int(rng.choice([1, 2, 4]))
    top = 1 << 8 * size
    value = int(rng.choice([0, 1, 2, top // 2 - 1, top // 2, top - 2, top - 1, int(rng.integers(top))]))
    at = int(rng.integers(min(100, len(data) - size)))
    data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return data


def swap_blocks(data, rng):
    """Swap two blocks."""
    size = int(rng.integers(1, max(2, len(data) // 4)))
    one, other = sorted(int(at) for at in rng.integers(0, len(data) - size, 2))
    if one + size <= other:
        data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    return data


def repeat_block(data, rng):
    """Repeat a block, up to a hundred times."""
    begin, end = sorted(int(at) for at in rng.integers(0, len(data), 2))
    return data[:end] + data[begin:end] * int(rng.choice([1, 2, 100 if end - begin < 4096 else 3])) + data[end:]


def insert_bytes(data, rng):
    """Insert random bytes, zeros or ones somewhere."""
    size = int(rng.choice([1, 2, 17, 4096]))
    new = [rng.bytes(size), bytes(size), b"\xff" * size][rng.integers(3)]
    at = int(rng.integers(len(data)))
    return data[:at] + new + data[at:]


def overwrite(data, rng):
    """Overwrite a block with random bytes, zeros or ones."""
    size = int(rng.choice([4, 64, 4096]))
    at = int(rng.integers(len(data)))
    data[at : at + size] = [rng.bytes(size), bytes(size), b"\xff" * size][rng.integers(3)][: len(data) - at]
    return data


MUTATIONS = [flip_bits, flip_head_bits, truncate, change_field, swap_blocks, repeat_block, insert_bytes, overwrite]


def mutate(valid, number, seed):
    """Return the `number`-th mutant of a seed: (ending, name of the mutation, bytes)."""
    rng = np.random.default_rng([seed, number])
    names = list(FORMATS)
    of_format = [data for ending, data in valid if ending == names[number % len(names)]]
    mutation = MUTATIONS[number // len(names) % len(MUTATIONS)]
    data = mutation(bytearray(of_format[rng.integers(len(of_format))]), rng)
    name = mutation.__name__
    if rng.random() < 0.2:
        more = MUTATIONS[rng.integers(len(MUTATIONS))]
        data, name = (more(data, rng), "two at once") if len(data) > 200 else (data, name)
    return names[number % len(names)], name, bytes(data)


def draw(*task):
    """Draw a track and capture what libraries print: (result, seconds, printed)."""
    warnings.simplefilter("always")
    start, saved = time.monotonic(), os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            result = batch.draw(*task)
            sys.stderr.flush()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        caught.seek(0)
        return result, time.monotonic() - start, caught.read().decode(errors="replace").strip()


def check(result, picture):
    """Return the outcome of a mutant, and the rule that it broke or an empty string."""
    if isinstance(result, workers.TaskFailed):
        return "crashed", result.reason
    result, seconds, printed = result
    if seconds > 20:
        return result.status, f"took {seconds:.0f} s"
    if printed:
        return result.status, f"printed {printed.splitlines()[0]!r} besides ({result.message or 'drawn'})"
    if result.status == "drawn":
        try:
            S_db, _ = png.read(picture)
        except png.PictureError as error:
            return "drawn", f"a picture that {error}"
        return "drawn", "" if np.isfinite(S_db).all() and S_db.size else "a picture that is not finite"
    if result.status != "failed":
        return result.status, "neither drawn nor failed"
    if picture.exists():
        return "failed", "failed and left a picture"
    good = result.message and cli.one_line(result.message) == result.message
    return "failed", "" if good else f"not one line: {result.message!r}"


@cli.command
def main(argv=None):
    """Run the command; returns 0, or 1 when a mutant broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=2000, help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--keep", default="fuzz-failures", help="folder for mutants that broke a rule")
    args = parser.parse_args(argv)
    start = time.monotonic()
    valid = make_valid(args.seed)
    counts, reasons, broken, slowest = collections.Counter(), collections.Counter(), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        folder, tasks, about = Path(folder), [], []
        for number in range(args.n):
            ending, mutation, data = mutate(valid, number, args.seed)
            path = folder / f"{number:06}.{ending}"
            path.write_bytes(data)
            tasks.append((tracks.Track("g", path.stem, path), folder / "out", SETTINGS, "magma", png.palette("magma")))
            about.append((ending, mutation))
        done = workers.run(draw, tasks, workers.count_jobs(args.jobs, len(tasks)), limits=LIMITS)
        for number, result in cli.progress(done, total=len(tasks), desc="fuzz", unit="mutant"):
            track = tasks[number][0]
            kind, rule = check(result, batch.picture_path(track, folder / "out"))
            counts[about[number][0], kind] += 1
            counts[about[number][1], kind] += 1
            if kind == "failed":
                reasons[re.sub(r"[0-9.]+", "#", result[0].message)] += 1
            if not isinstance(result, workers.TaskFailed):
                slowest = max(slowest, result[1])
            if rule:
                Path(args.keep).mkdir(exist_ok=True)
                kept = Path(args.keep) / f"seed{args.seed}-{track.path.name}"
                kept.write_bytes(track.path.read_bytes())
                broken.append(f"{kept} ({about[number][1]}): {rule}")
        left = [path for path in (folder / "out").rglob("*") if path.is_file() and path.suffix != ".png"]
        broken += [f"left behind: {path.name}" for path in left]
    print(f"{'':16}{'drawn':>8}{'failed':>8}{'crashed':>8}")
    for row in [*FORMATS, *[mutation.__name__ for mutation in MUTATIONS], "two at once"]:
        print(f"{row:16}" + "".join(f"{counts[row, kind]:8}" for kind in ("drawn", "failed", "crashed")))
    print("\nreasons of failures:")
    for reason, count in reasons.most_common(25):
        print(f"{count:6}  {reason[:110]}")
    for line in broken:
        print(f"BROKEN: {line}")
    seconds = time.monotonic() - start
    print(f"\n{args.n} mutants, seed {args.seed}, in {seconds:.0f} s, the slowest {slowest:.1f} s")
    print(f"{len(broken)} broke a rule")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
