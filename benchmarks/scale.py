"""Time of `python -m render` for 50, 500 and 5000 tracks, and its memory for long ones.

    python -m benchmarks.scale GENRES [--hours 2]

Tracks are links to the real ones under other names. For each number: a whole command that draws all,
then one that finds all up to date; and the peak memory of the largest process. Then one stereo track at 44.1 kHz of
1 hour of noise, and one of `--hours`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(genres, out):
    """Time a whole command; returns seconds and the peak memory of its largest process in MiB."""
    program = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'render', *sys.argv[1:]], capture_output=True, text=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    call = [sys.executable, "-c", program, str(genres), "-o", str(out)]
    done = subprocess.run(call, check=True, capture_output=True, text=True, env=environment)
    code, peak = done.stdout.split()
    if code != "0":
        sys.exit(f"render ended with {code}")
    return time.perf_counter() - start, float(peak)


def write_long(path, hours):
    """Write stereo noise of 44.1 kHz, an hour being 635 MB."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    second = rng.normal(0, 3000, (44100, 2)).astype(np.int16)
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        for number in range(round(hours * 3600)):
            file.write(np.roll(second, number * 997, axis=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genres", type=Path)
    parser.add_argument("--hours", type=float, default=2)
    args = parser.parse_args()
    tracks = sorted(args.genres.glob("*/*.wav"))
    print(f"{'tracks':>8} {'drawn, s':>9} {'ms a track':>11} {'peak MiB':>9} {'fresh, s':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for n in (50, 500, 5000):
            genres = Path(folder) / f"genres{n}"
            for number in range(n):
                track = tracks[number % len(tracks)]
                link = genres / track.parent.name / f"{track.stem}.{number:05}.wav"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(track.resolve())
            seconds, peak = run(genres, Path(folder) / f"out{n}")
            fresh, _ = run(genres, Path(folder) / f"out{n}")
            print(f"{n:8} {seconds:9.1f} {seconds / n * 1000:11.1f} {peak:9.0f} {fresh:9.1f}", flush=True)
        for hours in (1, args.hours):
            genres = Path(folder) / f"long{hours}" / "noise"
            genres.mkdir(parents=True)
            write_long(genres / "long.wav", hours)
            seconds, peak = run(genres.parent, Path(folder) / f"out long{hours}")
            print(f"one track of {hours:g} hours: {seconds:.1f} s, peak {peak:.0f} MiB", flush=True)
            (genres / "long.wav").unlink()


if __name__ == "__main__":
    main()
