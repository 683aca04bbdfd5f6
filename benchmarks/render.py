"""How fast `python -m render` is, against the script everybody writes and against the floor.

    python benchmarks/render.py GENRES [--tracks 50] [--rounds 3]

All in one run over the same tracks, in turns, so that a busy machine slows all alike:

(a) librosa.load, melspectrogram, power_to_db, matplotlib's specshow with axes, savefig; one process
(b) the same through a process pool on all cores
(c) ours with --jobs 1 and on all cores, as whole commands
(d) the floor: decode, window and FFT, PNG of our settings; nothing else, one thread

(a) and (b) are timed after their imports and the first track, which takes librosa seconds; ours with
everything, start-up included.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def usual(path, out):
    """What everybody writes."""
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


def floor(path, out):
    """Decode, FFT and encode: what no renderer of this picture can leave out."""
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
    # A real picture, drawn beforehand: how long zlib takes depends on what is in it.
    image = Image.open(Path(out) / "real" / Path(path).parent.name / f"{Path(path).stem}.png")
    image.load()
    start = time.perf_counter()
    image.putpalette(png.palette("magma").tobytes())
    image.save(io.BytesIO(), "PNG", compress_level=1)
    return last, time.perf_counter() - start


def timed(call):
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
    times = {name: [] for name in ("(a) usual, 1 process", f"(b) usual, {cores} processes", "(c) ours, --jobs 1")}
    times |= {f"(c) ours, {cores} cores": [], "(d) floor, 1 thread": []}
    with tempfile.TemporaryDirectory() as out:
        chosen = Path(out) / "genres"
        for track in tracks:
            (chosen / track.parent.name).mkdir(parents=True, exist_ok=True)
            (chosen / track.parent.name / track.name).symlink_to(track.resolve())

        def ours(jobs):
            call = [sys.executable, "-m", "render", chosen, "-o", Path(out) / "real", "--force", "--jobs", str(jobs)]
            subprocess.run(call, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": os.getcwd()})

        sys.path.insert(0, os.getcwd())
        pool = Parallel(n_jobs=cores)
        usual(tracks[0], out)
        pool(delayed(usual)(track, out) for track in tracks[: 2 * cores])
        ours(1)
        floor(tracks[0], out)
        for _ in range(args.rounds):
            measured = [
                timed(lambda: [usual(track, out) for track in tracks]),
                timed(lambda: pool(delayed(usual)(track, out) for track in tracks)),
                timed(lambda: ours(1)),
                timed(lambda: ours(-1)),
                timed(lambda: [floor(track, out) for track in tracks]),
            ]
            for name, seconds in zip(times, measured, strict=True):
                times[name].append(seconds / len(tracks) * 1000)
    base = statistics.median(next(iter(times.values())))
    print(f"{len(tracks)} tracks, {args.rounds} rounds, {cores} cores; ms a track, median (min to max)")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"{name:24} {middle:7.1f} ({min(found):.1f} to {max(found):.1f})   {base / middle:5.1f} x (a)")


if __name__ == "__main__":
    main()
