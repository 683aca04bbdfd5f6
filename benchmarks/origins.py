"""How a model predicts other programs' pictures of recordings, against the recordings themselves.

    python -m benchmarks.origins RUN GENRES [--limit 25]

Draws the Mel spectrogram of recordings with librosa and matplotlib in the ways that people do, and prints for each way
the share of pictures that get the genre of their recording, and the mean total variation between the probabilities of
both: as `Predictor` reads them, and as a plain script would, which takes the whole picture in grey.
"""

import argparse
import tempfile
from pathlib import Path

import librosa
import librosa.display
import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vision import Predictor
from vision.data.images import load
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import resize


def figure(theme="default", axis=True, bar=True, cmap="magma", mel=False, ending="png", **savefig):
    """A way to draw: matplotlib's figures, with axes, labels and a colour bar or without."""

    def draw(S_db, sr, stem):
        with matplotlib.style.context(theme):
            drawn = Figure(figsize=(10, 4))
            FigureCanvasAgg(drawn)
            axes = drawn.add_subplot()
            axes.grid(False)
            if mel:
                image = librosa.display.specshow(S_db, sr=sr, x_axis="time", y_axis="mel", ax=axes, cmap=cmap)
            else:
                image = axes.imshow(S_db, origin="lower", aspect="auto", cmap=cmap)
            axes.set_title("a song") if axis else axes.axis("off")
            if bar:
                drawn.colorbar(image, ax=axes, format="%+2.0f dB")
            drawn.savefig(f"{stem}.{ending}", **savefig)

    return draw


def pixels(cmap, ending="png", margin=None):
    """A way to draw: one pixel a value, brought to 600x300, with a margin of one colour or none."""

    def draw(S_db, sr, stem):
        colours = matplotlib.colormaps[cmap](((S_db[::-1] + 80) / 80).clip(0, 1))[..., :3] * 255
        image = Image.fromarray(colours.astype(np.uint8)).resize((600, 300), Image.Resampling.BICUBIC)
        if margin:
            framed = Image.new("RGB", (650, 360), margin)
            framed.paste(image, (30, 20))
            image = framed
        image.save(f"{stem}.{ending}")

    return draw


WAYS = {
    "imshow, axes off": figure(axis=False, bar=False),
    "imshow, axes, title, colour bar": figure(),
    "the same in viridis, as JPEG": figure(cmap="viridis", ending="jpg"),
    "the same in jet, ggplot's theme": figure(cmap="jet", theme="ggplot"),
    "the same on dark paper": figure(theme="dark_background"),
    "the same, tight": figure(bbox_inches="tight"),
    'specshow, y_axis="mel", colour bar': figure(mel=True),
    "pixels in hot": pixels("hot"),
    "pixels in grey": pixels("gray"),
    "pixels in viridis, as JPEG": pixels("viridis", "jpg"),
    "pixels in inferno, as WebP": pixels("inferno", "webp"),
    "pixels with a black margin": pixels("magma", margin=(0, 0, 0)),
    "pixels with a grey margin": pixels("viridis", margin=(200, 200, 200)),
}


def as_a_whole(predictor, path):
    """Probabilities of the whole picture in grey, stretched over the length of a track."""
    spec = predictor.spec
    grey = torch.from_numpy(np.array(load(path).convert("RGB").convert("L")))[None]
    x = resize(grey, spec.size, spec.width(spec.track_seconds))
    return predictor.probabilities(PixelStore.of(x.expand(spec.channels, -1, -1)[None]))[0]


def agreement(found, truth):
    """Share with the same genre, and mean total variation, as text."""
    same = np.mean([p.argmax() == q.argmax() for p, q in zip(found, truth, strict=True)])
    return f"{same:.2f} {np.mean([np.abs(p - q).sum() / 2 for p, q in zip(found, truth, strict=True)]):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run trained on plain pictures of whole spectrograms, such as ours")
    parser.add_argument("genres", type=Path, help="recordings, a folder a genre")
    parser.add_argument("--limit", type=int, default=25, help="recordings, evenly taken (default: 25)")
    args = parser.parse_args()
    predictor = Predictor(args.run)
    recordings = sorted(args.genres.glob("*/*.*"))
    recordings = recordings[:: -(-len(recordings) // args.limit)]
    truth = [prediction.p for prediction in predictor.predict(recordings)]
    spectrograms = []
    for path in recordings:
        y, sr = librosa.load(path, duration=30)
        spectrograms.append((librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr), ref=np.max), sr))
    print(f"{len(recordings)} recordings: share with the same genre, total variation")
    print(f"{'':36} ours        the whole picture in grey")
    for name, draw in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            for number, (S_db, sr) in enumerate(spectrograms):
                draw(S_db, sr, Path(folder) / f"{number:04}")
            paths = sorted(Path(folder).iterdir())
            ours = [prediction.p for prediction in predictor.predict(paths)]
            whole = [as_a_whole(predictor, path) for path in paths]
        print(f"{name:36} {agreement(ours, truth)}   {agreement(whole, truth)}", flush=True)


if __name__ == "__main__":
    main()
