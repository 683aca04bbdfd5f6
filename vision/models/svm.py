"""Support vector machines on a picture's texture statistics, kept as tensors.

How it works. A window's n = 1636 texture statistics (`vision.models.texture`) are standardised on the train windows,
clipped, and projected on the first `AXES` principal axes: z. For each genre, one support vector machine with a
Gaussian kernel (Cortes and Vapnik, "Support-Vector Networks", 1995) separates its train windows z_i from all others.
Its decision value for a new window is

    f(z) = b + sum_i w_i exp(-GAMMA / n |z - z_i|^2),

above 0 where most of the train windows near z are of the genre. Only windows near the boundary, the support vectors,
have a weight w_i other than 0. scikit-learn finds weights and b exactly, in float64; here they are kept as tensors, so
that f is a few matrix products, on any device and in an exported file. The decision values of all genres, divided by
`SOFTNESS`, are logits, whose softmax gives probabilities. Nothing is trained by gradients: the SVMs are fitted once,
before the first epoch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vision.data.pixel_store import EVAL_BATCH, PixelStore, to_pixels
from vision.models.texture_space import TextureSpace, keep

#: Windows of the train pictures that new ones are compared with, at most. More of them are thinned out evenly.
POINTS = 4000

#: Principal axes of the statistics that are kept, at most: as accurate as all of them, in a quarter of the file.
AXES = 400

#: Of the Gaussian kernel; it is divided by the number of statistics, so that it is per statistic.
GAMMA = 0.3

#: Penalty of an SVM for a train window on the wrong side.
C = 10.0

#: The SVMs' decision values are divided by this to be logits.
SOFTNESS = 0.4


class TextureSVM(TextureSpace):
    """One support vector machine a genre, against the rest, on texture statistics; see the top of this module.

    Parameters
    ----------
    n_classes : int
        Genres.
    size, points : int
        As of `TextureSpace`, whose points are z_i.

    Attributes
    ----------
    weights, bias : torch.Tensor, shapes (points, n_classes) and (n_classes,)
        w_i and b of each genre.
    """

    weights: torch.Tensor
    bias: torch.Tensor

    def __init__(self, n_classes: int, *, size: int, points: int):
        super().__init__(size=size, points=points, axes=AXES)
        self.register_buffer("weights", torch.zeros(points, n_classes))
        self.register_buffer("bias", torch.zeros(n_classes))

    @torch.no_grad()
    def fit(self, statistics: torch.Tensor, labels: torch.Tensor, class_weight: torch.Tensor | None = None) -> None:
        """Fit the SVMs to the train windows.

        Parameters
        ----------
        statistics : torch.Tensor, shape (points, n_statistics)
            Of the windows.
        labels : torch.Tensor, shape (points,), int64
            Their genres.
        class_weight : torch.Tensor, shape (n_classes,), optional
            How much a window of each genre counts; by default all alike.
        """
        from sklearn.svm import SVC

        self.place(statistics)
        points, y = self.points.cpu().numpy().astype(np.float64), labels.cpu().numpy()
        counts = None if class_weight is None else class_weight.cpu().numpy()[y]
        weights, bias = np.zeros(self.weights.shape), np.full(len(self.bias), -1.0)
        for label in np.unique(y):  # a genre with no window among the points stays at -1
            svm = SVC(C=C, gamma=GAMMA / len(self.mean)).fit(points, y == label, sample_weight=counts)
            weights[svm.support_, label] = svm.dual_coef_[0]
            bias[label] = svm.intercept_[0]
        keep(self.weights, weights)
        keep(self.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (B, n_classes), of pixels in [0, 1], shape (B, C, H, W)."""
        return self.classify(self.statistics(x))

    def classify(self, statistics: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (B, n_classes), of texture statistics, shape (B, n_statistics)."""
        with torch.autocast(statistics.device.type, enabled=False):
            z = self.project(statistics)
            squares = z.square().sum(dim=1, keepdim=True) + self.points.square().sum(dim=1)
            distances = (squares - 2 * z @ self.points.T).clamp_min(0)
            kernel = torch.exp(distances * (-GAMMA / len(self.mean)))
            return (kernel @ self.weights + self.bias) / SOFTNESS


def train_windows(x: PixelStore) -> list[tuple[int, int]]:
    """Windows of train pictures, (number, left edge) each, that the SVMs are fitted to: `POINTS` at most."""
    windows = _all_windows(x, range(len(x)))
    return windows[:: -(-len(windows) // POINTS)]


@torch.inference_mode()
def window_statistics(expert: Any, x: PixelStore, windows: list[tuple[int, int]]) -> torch.Tensor:
    """Statistics of windows, (n, n_statistics), as an expert such as a `TextureSpace` takes them; on its device."""
    device = next(expert.buffers()).device
    parts = (windows[first : first + EVAL_BATCH] for first in range(0, len(windows), EVAL_BATCH))
    return torch.cat([expert.statistics(to_pixels(x.cut(*zip(*part, strict=True)), device)) for part in parts])


def out_of_fold(
    x: PixelStore,
    y: torch.Tensor,
    groups: Sequence[int],
    statistics: torch.Tensor,
    *,
    n_classes: int,
    folds: int = 5,
    seed: int = 0,
) -> torch.Tensor | None:
    """Probabilities of each train picture by texture SVMs that were fitted without its group.

    Parameters
    ----------
    x : PixelStore
        Train pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    groups : sequence of int, length n
        Pictures of one group are in one fold.
    statistics : torch.Tensor, shape (n_windows, n_statistics)
        Texture statistics of the pictures' `train_windows`.
    n_classes : int
        Genres.
    folds, seed : int
        Number of folds, at most, and seed of the assignment to them.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32, or None
        On the CPU: the mean over a picture's windows. None where a genre has one group only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    group_of, labels = np.array(groups), y.numpy()
    folds = min(folds, *(len(set(group_of[labels == label])) for label in range(n_classes)))
    if folds < 2:
        return None
    owner = np.array([number for number, _ in train_windows(x)])
    statistics = statistics.cpu()
    probabilities = torch.full((len(labels), n_classes), 1 / n_classes)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, held_out in splitter.split(labels, labels, group_of):
        seen = np.isin(owner, train)
        svm = TextureSVM(n_classes, size=x.height, points=int(seen.sum()))
        svm.fit(statistics[seen], y[owner[seen]])
        p = svm.classify(statistics).softmax(dim=1)
        for number in held_out:
            if (mine := owner == number).any():
                probabilities[number] = p[mine].mean(dim=0)
    return probabilities


def _all_windows(x: PixelStore, numbers: Sequence[int]) -> list[tuple[int, int]]:
    return [(number, start) for number in numbers for start in x.starts(number)]
