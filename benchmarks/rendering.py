"""Speed of `python -m render`, compared with a plain librosa script and with a lower bound.

    python -m benchmarks.rendering GENRES [--tracks 50] [--rounds 3]

All in one run over the same tracks, taking turns, so that a busy machine slows all alike:

(a) librosa.load, melspectrogram, power_to_db, matplotlib's specshow with axes, savefig; one process
(b) the same through a process pool on all cores
(c) ours with --jobs 1 and on all cores, as whole commands: over the same tracks, and over ten times as many (links to
    them), where the start-up time counts as little as for a data set like GTZAN;
    and drawing alone, in this process, without start-up and workers
(d) the lower bound: decode, window and FFT, PNG of our settings; nothing else, one thread

(a) and (b) are timed after their imports and the first track, which takes librosa seconds; ours includes start-up.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import spread

# One thread a process, as `render` has it, before numpy is imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def plain_script(path, out):
    """Draw one track as a plain librosa script does."""
    import librosa
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    y, sr = librosa.load(path)
    S_db = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr), ref=np.max)
    plt.figure(figsize=(4.32, 2.88))
    librosa.display.specshow(S_db, sr=sr, x_axis="time", y_axis="mel")
    plt.savefig(Path(out) / f"{Path(path).stem}.png")
    plt.close()


def lower_bound(path, out):
    """Decode, FFT and encode: what every renderer of this picture has to do."""
    import io

    import numpy as np
    import soundfile
    from PIL import Image
    from scipy import fft

    from render import png, spectrogram

    y, _ = soundfile.read(path, dtype="float32")
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(y, 1024), 2048)[::512]
    window = spectrogram._window("hann", 2048, 2048)
    for start in range(0, len(frames), spectrogram.BLOCK_FRAMES):
        last = fft.rfft(frames[start : start + spectrogram.BLOCK_FRAMES] * window, overwrite_x=True)
    # A real picture, drawn beforehand, because the time that zlib takes depends on the content.
    image = Image.open(Path(out) / "real" / Path(path).parent.name / f"{Path(path).stem}.png")
    image.load()
    start = time.perf_counter()
    image.putpalette(png.palette("magma").tobytes())
    image.save(io.BytesIO(), "PNG", compress_level=1)
    return last, time.perf_counter() - start


def draw(path, out):
    """Draw one track with our code."""
    from render import batch, png
    from render.settings import Settings
    from render.tracks import Track

    track = Track(path.parent.name, path.stem, path)
    result = batch.draw(track, out, Settings(), "magma", png.palette("magma"), True)
    if result.status != "drawn":
        sys.exit(f"{path}: {result.message}")


def timed(call):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genres", type=Path)
    parser.add_argument("--tracks", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from joblib import Parallel, delayed

    tracks = sorted(args.genres.glob("*/*.wav"))[: args.tracks]
    cores = os.cpu_count()
    names = ["(a) plain script, 1 process", f"(b) plain script, {cores} processes", "(c) ours, --jobs 1"]
    names += [f"(c) ours, {cores} cores", "(c) ours, --jobs 1, x 10", f"(c) ours, {cores} cores, x 10"]
    names += ["(c) ours, drawing alone", "(d) lower bound, 1 thread"]
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as out:
        for track in tracks:
            for number in range(10):
                link = Path(out) / "many" / track.parent.name / f"{track.stem}.{number}.wav"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(track.resolve())
            link = Path(out) / "genres" / track.parent.name / track.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(track.resolve())

        def ours(jobs, genres="genres", images="real"):
            folders = [Path(out) / genres, "-o", Path(out) / images]
            call = [sys.executable, "-m", "render", *folders, "--force", "--jobs", str(jobs)]
            subprocess.run(call, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": os.getcwd()})

        pool = Parallel(n_jobs=cores)
        plain_script(tracks[0], out)
        pool(delayed(plain_script)(track, out) for track in tracks[: 2 * cores])
        ours(1)
        lower_bound(tracks[0], out)
        draw(tracks[0], Path(out) / "alone")
        for _ in range(args.rounds):
            measured = [
                timed(lambda: [plain_script(track, out) for track in tracks]),
                timed(lambda: pool(delayed(plain_script)(track, out) for track in tracks)),
                timed(lambda: ours(1)),
                timed(lambda: ours(-1)),
                timed(lambda: ours(1, "many", "pictures")) / 10,
                timed(lambda: ours(-1, "many", "pictures")) / 10,
                timed(lambda: [draw(track, Path(out) / "alone") for track in tracks]),
                timed(lambda: [lower_bound(track, out) for track in tracks]),
            ]
            for name, seconds in zip(times, measured, strict=True):
                times[name].append(seconds / len(tracks) * 1000)
    base = statistics.median(next(iter(times.values())))
    print(f"{len(tracks)} tracks, {args.rounds} rounds, {cores} cores; ms a track, median (min to max)")
    for name, values in times.items():
        speedup = base / statistics.median(values)
        print(f"{name:32} {spread(values)}   {speedup:.1f} times as fast as (a)")


if __name__ == "__main__":
    main()
