"""Fit the experts that are not trained by epochs to the windows of the train pictures."""

import torch

from vision.data.pixel_store import PixelStore
from vision.models.classifier import GenreClassifier
from vision.models.svm import train_windows, window_statistics


def texture_statistics(model: GenreClassifier, x: PixelStore) -> torch.Tensor:
    """Texture statistics of the `train_windows` of train pictures, (n, n_statistics), on the model's device."""
    return window_statistics(model.space, x, train_windows(x))


def fit_experts(
    model: GenreClassifier,
    x: PixelStore,
    y: torch.Tensor,
    class_weight: torch.Tensor | None = None,
    statistics: torch.Tensor | None = None,
) -> None:
    """Fit a model's texture SVM and its discriminant on musicnn, and its space where it has no texture SVM.

    Parameters
    ----------
    model : GenreClassifier
        On its device.
    x : PixelStore
        Train pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    class_weight : torch.Tensor, shape (n_classes,), optional
        How much each genre counts.
    statistics : torch.Tensor, optional
        `texture_statistics`, where they are known.
    """
    windows = train_windows(x)
    owners = torch.tensor([number for number, _ in windows])
    if model.space is not None:
        statistics = texture_statistics(model, x) if statistics is None else statistics
        if model.texture is not None:
            model.texture.fit(statistics, y[owners], class_weight)
        else:
            model.space.place(statistics)
    if model.musicnn is not None:
        embeddings = window_statistics(model.musicnn, x, windows).cpu()
        numbers, owners = owners.unique(return_inverse=True)
        sums = torch.zeros(len(numbers), embeddings.shape[1]).index_add_(0, owners, embeddings)
        model.musicnn.fit(sums / owners.bincount()[:, None], y[numbers], class_weight)
