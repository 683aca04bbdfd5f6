"""Where windows lie among those that a model was trained on, by their texture statistics."""

import numpy as np
import torch
from torch import nn

from vision.models.texture import Texture

#: Statistics are clipped at this many standard deviations.
FURTHEST = 5.0

#: The distance of a window is the mean of those to so many of the nearest train windows, along the first axes.
NEAREST, NOVELTY_AXES = 5, 20


class TextureSpace(nn.Module):
    """The train windows as points: their texture statistics, standardised, along principal axes.

    Parameters
    ----------
    size : int
        Height and width of the pictures, in pixels.
    points : int
        Train windows that it will hold.
    axes : int
        Principal axes that are kept, at most.

    Attributes
    ----------
    mean, std : torch.Tensor, shape (n_statistics,)
        Of the train windows.
    axes, middle : torch.Tensor, shapes (n_statistics, n_axes) and (n_axes,)
        Principal axes, and the mean along them.
    points : torch.Tensor, shape (points, n_axes)
        The train windows.
    """

    mean: torch.Tensor
    std: torch.Tensor
    axes: torch.Tensor
    middle: torch.Tensor
    points: torch.Tensor

    def __init__(self, *, size: int, points: int, axes: int = NOVELTY_AXES):
        super().__init__()
        self.texture = Texture(size, size)
        n = self.texture.n_statistics
        axes = min(axes, points, n)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))
        self.register_buffer("axes", torch.zeros(n, axes))
        self.register_buffer("middle", torch.zeros(axes))
        self.register_buffer("points", torch.zeros(points, axes))

    def statistics(self, x: torch.Tensor) -> torch.Tensor:
        """Texture statistics, (B, n_statistics), of pixels in [0, 1], (B, C, H, W)."""
        return self.texture(x)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """Statistics, (B, n_statistics), as clipped standard deviations along the principal axes, (B, n_axes)."""
        return ((statistics - self.mean) / self.std).clamp(-FURTHEST, FURTHEST) @ self.axes - self.middle

    @torch.no_grad()
    def place(self, statistics: torch.Tensor) -> None:
        """Find the axes of the train windows, from their statistics, (points, n_statistics), and keep the points."""
        from sklearn.decomposition import PCA

        self.mean.copy_(statistics.mean(dim=0))
        self.std.copy_(statistics.std(dim=0).clamp_min(1e-6))
        standard = ((statistics - self.mean) / self.std).clamp(-FURTHEST, FURTHEST)
        # On the CPU and in float64, whatever the device. Of few windows their own SVD is many times faster than that of
        # the covariance of all statistics; of many it is the other way round.
        solver = "full" if 2 * len(standard) < standard.shape[1] else "covariance_eigh"
        with np.errstate(invalid="ignore"):  # silence alone has no variance to be a fraction of
            pca = PCA(self.axes.shape[1], svd_solver=solver).fit(standard.cpu().numpy().astype(np.float64))
        keep(self.axes, pca.components_.T)
        keep(self.middle, pca.components_ @ pca.mean_)
        self.points.copy_(self.project(statistics))

    def distance(self, statistics: torch.Tensor) -> torch.Tensor:
        """Return how far windows are from what was trained on, (B,): the mean over the `NEAREST` train windows.

        The distance to the nearest neighbours tells what is unlike the training data without any example of it:
        Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors" (2022).
        """
        with torch.autocast(statistics.device.type, enabled=False):
            z = self.project(statistics.float())[:, :NOVELTY_AXES]
            points = self.points[:, :NOVELTY_AXES]
            squares = z.square().sum(dim=1, keepdim=True) + points.square().sum(dim=1)
            squares = (squares - 2 * z @ points.T).clamp_min(0)
            return squares.topk(min(NEAREST, len(points)), dim=1, largest=False).values.sqrt().mean(dim=1)


def keep(buffer: torch.Tensor, values: np.ndarray) -> None:
    """Copy values, of any precision, into a buffer of float32."""
    buffer.copy_(torch.from_numpy(values.astype(np.float32)))
