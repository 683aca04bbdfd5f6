"""Memory after many figures, compared with a plain pyplot script.

    python -m benchmarks.figures PICTURE [--n 2000]

Draws one of our pictures `n` times as ``--style figure`` does and prints the resident memory ten times, and its
growth between the first and the last tenth. Then draws `n` / 10 figures with pyplot without closing them, to show
what a leak looks like.
"""

import argparse
import os
import tempfile
import warnings
from pathlib import Path

from render import figure, png
from render.settings import Settings


def resident():
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    args = parser.parse_args()
    values, about = png.read(args.picture)
    settings = Settings.from_dict(about)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        sizes = []
        for number in range(args.n):
            figure.save(path, values, about, settings, "title")
            sizes.append(resident())
            if number % (args.n // 10) == 0:
                print(f"ours, {number + 1:5} figures: {sizes[-1]:7.1f} MiB", flush=True)
        tenth = args.n // 10
        ours = (max(sizes[-tenth:]) - max(sizes[:tenth])) / (args.n - tenth)
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        warnings.simplefilter("ignore")
        n = args.n // 10
        for number in range(n):
            if number == n // 2:
                before = resident()
            plt.figure(figsize=(8, 4.5), dpi=120)
            plt.imshow(values, origin="lower", aspect="auto")
            plt.savefig(path)
        theirs = (resident() - before) / (n - n // 2)
    print(f"growth a figure: ours {ours * 1024:.1f} KiB, pyplot without close {theirs * 1024:.0f} KiB")


if __name__ == "__main__":
    main()
