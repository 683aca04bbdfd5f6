"""Support vector machines on a picture's texture statistics, kept as tensors."""

import numpy as np
import torch
from torch import nn

from vision.data.pixel_store import EVAL_BATCH, to_pixels
from vision.models.texture import Texture

#: Windows of the train pictures that new ones are compared with, at most. More of them are thinned out evenly.
POINTS = 4000

#: Principal axes of the statistics that are kept, at most: as right as all of them, and a quarter of the file.
AXES = 400

#: Statistics further out than so many standard deviations say no more.
FURTHEST = 5.0

#: Of the Gaussian kernel, for the mean square distance a statistic, in standard deviations.
GAMMA = 0.3

#: What a train window on the wrong side costs the machine.
C = 10.0

#: The machines' decision values are divided by this to be logits.
SOFTNESS = 0.4


class TextureSVM(nn.Module):
    """Genres by likeness of texture to the train windows.

    A support vector machine with a Gaussian kernel for each genre against the rest (Cortes and Vapnik,
    "Support-Vector Networks", 1995), solved by scikit-learn and kept as tensors, so that it answers on
    every device and in an exported file. Nothing in it is trained step by step.

    Parameters
    ----------
    n_classes : int
        Genres.
    size : int
        Height and width of the pictures, in pixels.
    points : int
        Train windows that it will hold.
    """

    def __init__(self, n_classes, *, size, points):
        super().__init__()
        self.texture = Texture(size, size)
        n = self.texture.n_statistics
        axes = min(AXES, points, n)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))
        self.register_buffer("axes", torch.zeros(n, axes))
        self.register_buffer("middle", torch.zeros(axes))
        self.register_buffer("points", torch.zeros(points, axes))
        self.register_buffer("weights", torch.zeros(points, n_classes))
        self.register_buffer("bias", torch.zeros(n_classes))

    def _place(self, statistics):
        """Where statistics lie: clipped standard deviations along the principal axes, (B, axes)."""
        return ((statistics - self.mean) / self.std).clamp(-FURTHEST, FURTHEST) @ self.axes - self.middle

    @torch.no_grad()
    def fit(self, statistics, labels, class_weight=None):
        """Solve the machines for the train windows.

        Parameters
        ----------
        statistics : torch.Tensor, shape (points, n_statistics)
            Of the windows.
        labels : torch.Tensor, shape (points,), int64
            Their genres.
        class_weight : torch.Tensor, shape (n_classes,), optional
            How much a window of each genre counts; by default all alike.
        """
        from sklearn.decomposition import PCA
        from sklearn.svm import SVC

        self.mean.copy_(statistics.mean(dim=0))
        self.std.copy_(statistics.std(dim=0).clamp_min(1e-6))
        standard = ((statistics - self.mean) / self.std).clamp(-FURTHEST, FURTHEST)

        def keep(buffer, values):
            buffer.copy_(torch.from_numpy(values.astype(np.float32)))

        # On the CPU and in float64, whatever the device.
        with np.errstate(invalid="ignore"):  # of silence alone there is no variance to share out
            found = PCA(self.axes.shape[1], svd_solver="covariance_eigh").fit(standard.cpu().numpy().astype(np.float64))
        keep(self.axes, found.components_.T)
        keep(self.middle, found.components_ @ found.mean_)
        self.points.copy_(self._place(statistics))
        points, labels = self.points.cpu().numpy().astype(np.float64), labels.cpu().numpy()
        counts = None if class_weight is None else class_weight.cpu().numpy()[labels]
        weights, bias = np.zeros(self.weights.shape), np.full(len(self.bias), -1.0)
        for label in np.unique(labels):  # a genre whose windows were all thinned out stays at -1
            machine = SVC(C=C, gamma=GAMMA / len(self.mean)).fit(points, labels == label, sample_weight=counts)
            weights[machine.support_, label] = machine.dual_coef_[0]
            bias[label] = machine.intercept_[0]
        keep(self.weights, weights)
        keep(self.bias, bias)

    def forward(self, x):
        """Return logits, shape (B, n_classes), of pixels in [0, 1], shape (B, C, H, W)."""
        statistics = self.texture(x)
        with torch.autocast(x.device.type, enabled=False):
            at = self._place(statistics)
            squares = at.square().sum(dim=1, keepdim=True) + self.points.square().sum(dim=1)
            distances = (squares - 2 * at @ self.points.T).clamp_min(0)
            likeness = torch.exp(distances * (-GAMMA / len(self.mean)))
            return (likeness @ self.weights + self.bias) / SOFTNESS


def train_windows(x):
    """Windows of train pictures, (number, left edge) each, that texture is learned from: up to `kernel.POINTS`."""
    windows = _all_windows(x, range(len(x)))
    return windows[:: -(-len(windows) // POINTS)]


def fit_texture(model, x, y, class_weight=None):
    """Solve a model's second opinion, where it has one, for windows of the train pictures.

    Parameters
    ----------
    model : models.Network
        With or without texture; on its device.
    x : Store
        Train pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    class_weight : torch.Tensor, shape (n_classes,), optional
        How much each genre counts.
    """
    if model.texture is None:
        return
    windows = train_windows(x)
    statistics = _of_windows(model.texture.texture, model, x, windows)
    model.texture.fit(statistics, y[[number for number, _ in windows]], class_weight)


def texture_probabilities(model, x, numbers):
    """What it says of the windows that pictures are scored by.

    Parameters
    ----------
    model : models.Network
        With or without texture.
    x : Store
        Pictures.
    numbers : sequence of int
        Which of them.

    Returns
    -------
    second : torch.Tensor, shape (n_windows, n_classes), or None
        Probabilities, on the model's device; None where the model has no second opinion, or nothing was asked.
    """
    windows = _all_windows(x, numbers)
    if model.texture is None or not windows:
        return None
    return _of_windows(model.second_opinion, model, x, windows)


def _all_windows(x, numbers):
    return [(number, start) for number in numbers for start in x.starts(number)]


@torch.inference_mode()
def _of_windows(call, model, x, windows):
    device = next(model.parameters()).device
    parts = (windows[first : first + EVAL_BATCH] for first in range(0, len(windows), EVAL_BATCH))
    return torch.cat([call(to_pixels(x.cut(*zip(*part, strict=True)), device)) for part in parts])
