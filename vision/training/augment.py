"""Augmentations: random changes to the training windows. Dev and test are never changed.

Each is a class with the value of one setting. A new one is a class here, in `AUGMENTATIONS`, and a field of
`TrainConfig` of the same name.
"""

from collections.abc import Sequence

import torch

from vision.training.config import TrainConfig

#: A mask covers at most this fraction of the height or the width.
WIDEST_MASK = 0.2


class Augmentation:
    """A random change to training windows; subclasses override one of the two methods.

    Parameters
    ----------
    amount : float
        The value of the setting, above 0.
    """

    def __init__(self, amount: float):
        self.amount = amount

    def window_options(self) -> dict[str, float]:
        """Keyword arguments of `PixelStore.random_windows`: for what is done while windows are cut."""
        return {}

    def pixels(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change a batch on its device.

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, H, W)
            Pixels in [0, 1].
        target : torch.Tensor, shape (B, n_classes)
            Probabilities of the genres.

        Returns
        -------
        x, target : torch.Tensor
            Of the same shapes.
        """
        return x, target


class Stretch(Augmentation):
    """Play up to `amount` faster or slower, on a logarithmic scale; see `PixelStore.random_windows`."""

    def window_options(self) -> dict[str, float]:
        """Give the maximum change of tempo."""
        return {"stretch": self.amount}


class Shift(Augmentation):
    """Move up or down by up to `amount` of the height; see `PixelStore.random_windows`."""

    def window_options(self) -> dict[str, float]:
        """Give the maximum shift."""
        return {"shift": self.amount}


class RandomEq(Augmentation):
    """Add a smooth random curve over frequency, as another recording of the same music would have.

    `amount` is about the curve's standard deviation in dB. Silence, the bottom of the scale, stays silent.
    """

    def pixels(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add another curve to each picture of a batch, the same at all times; pixels span about 80 dB."""
        waves = torch.arange(1, 5)[:, None] * torch.linspace(0, torch.pi, x.shape[2])
        heights, phases = torch.randn(len(x), 4, 1), torch.rand(len(x), 4, 1) * 2 * torch.pi
        # Four cosines, each with a mean square of a half.
        curve = (heights * torch.cos(waves + phases)).sum(dim=1) * (self.amount / 80 / 2**0.5)
        return (x + curve.to(x.device)[:, None, :, None] * (x > 0)).clamp(0, 1), target


class Mixup(Augmentation):
    """Blend each picture, and its target, with another of the batch.

    The proportion is drawn from a beta distribution with alpha `amount`; the first picture has at least half.
    After Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).
    """

    def pixels(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Blend a batch with a permutation of itself."""
        # Drawn on the CPU: some devices lack the beta distribution, and draws are the same on all.
        share = torch.distributions.Beta(self.amount, self.amount).sample((len(x),))
        share = torch.maximum(share, 1 - share).to(x.device)[:, None]
        other = torch.randperm(len(x)).to(x.device)
        pixels = share[:, :, None, None]
        return pixels * x + (1 - pixels) * x[other], share * target + (1 - share) * target[other]


class Masks(Augmentation):
    """Replace `amount` stretches of time and as many of frequency by the picture's mean.

    After Park et al., "SpecAugment" (2019), without the warping.
    """

    def pixels(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask each picture of a batch at its own places."""
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        for axis in [2, 3] * int(self.amount):
            length = x.shape[axis]
            size = torch.rand(len(x), 1) * WIDEST_MASK * length
            start = torch.rand(len(x), 1) * (length - size)
            at = torch.arange(length)
            hidden = ((at >= start) & (at < start + size)).to(x.device)
            hidden = hidden[:, None, :, None] if axis == 2 else hidden[:, None, None, :]
            x = torch.where(hidden, mean, x)
        return x, target


#: By the field of `TrainConfig` that sets them, in the order in which they are applied.
AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "stretch": Stretch,
    "shift": Shift,
    "random_eq": RandomEq,
    "mixup": Mixup,
    "masks": Masks,
}


def make_augmentations(config: TrainConfig) -> list[Augmentation]:
    """Make the augmentations of a config: those whose setting is not 0."""
    amounts = {name: getattr(config, name) for name in AUGMENTATIONS}
    return [AUGMENTATIONS[name](amount) for name, amount in amounts.items() if amount]


def window_options(augmentations: Sequence[Augmentation]) -> dict[str, float]:
    """Keyword arguments of `PixelStore.random_windows` of all augmentations together."""
    return {name: value for augmentation in augmentations for name, value in augmentation.window_options().items()}
