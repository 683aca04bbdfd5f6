"""How well our pictures agree with another program's of the same tracks, as the network sees them.

    python benchmarks/agreement.py OUR_IMAGES THEIR_IMAGES

For every track that both folders have: the correlation of levels at 224x224, and their mean absolute
difference (of 255), with ours redrawn at their size and stretched to its own range, and without both.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from vision.data.colormaps import read_levels
from vision.data.dataset import list_pictures
from vision.data.images import load
from vision.data.preprocess import (
    redraw,
    resize,
    to_tensor,
)
from vision.data.survey import fit_border


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    args = parser.parse_args()
    remove_border = fit_border(list_pictures(args.theirs))
    rows = []
    for path in map(Path, list_pictures(args.ours)):
        other = args.theirs / path.relative_to(args.ours)
        if not other.exists():
            continue
        ours = read_levels(load(path))[0]
        raw = np.asarray(Image.fromarray(ours, "L").resize((224, 224), Image.Resampling.BILINEAR), float)
        theirs = read_levels(remove_border(load(other)))[0]
        ours = redraw(ours, theirs.shape[::-1])
        ours, theirs = (resize(to_tensor(x), 224, 224)[0].numpy().astype(float) for x in (ours, theirs))
        correlation = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
        rows.append((correlation, np.abs(ours - theirs).mean(), np.abs(raw - theirs).mean()))
    rows = np.array(rows)
    print(f"{len(rows)} tracks in both folders")
    print(f"correlation of levels: mean {rows[:, 0].mean():.4f}, lowest {rows[:, 0].min():.4f}")
    print(f"mean difference: {rows[:, 1].mean():.1f} levels of 255 (most {rows[:, 1].max():.1f})")
    print(f"mean difference as drawn: {rows[:, 2].mean():.1f} (most {rows[:, 2].max():.1f})")


if __name__ == "__main__":
    main()
