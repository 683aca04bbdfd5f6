"""Changes to a batch while training, on its device. Nothing here touches dev or test."""

import torch

#: A mask is at most this share of the height or the width.
WIDEST_MASK = 0.2


def mixup(x, target, alpha):
    """Blend each picture, and its target, with another of the batch.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).

    Parameters
    ----------
    x : torch.Tensor, shape (B, C, H, W)
        Pixels.
    target : torch.Tensor, shape (B, n_classes)
        Probabilities.
    alpha : float
        Of the beta distribution that the share is drawn from; 0 changes nothing.

    Returns
    -------
    x, target : torch.Tensor
        Blends in which the first picture has at least half.
    """
    if not alpha:
        return x, target
    # Drawn on the CPU: beta's sampler is missing on some devices, and draws are the same on all.
    share = torch.distributions.Beta(alpha, alpha).sample((len(x),))
    share = torch.maximum(share, 1 - share).to(x.device)[:, None]
    other = torch.randperm(len(x)).to(x.device)
    pixels = share[:, :, None, None]
    return pixels * x + (1 - pixels) * x[other], share * target + (1 - share) * target[other]


def random_eq(x, decibels):
    """Change the balance of low and high, as another recording of the same music would.

    Parameters
    ----------
    x : torch.Tensor, shape (B, C, H, W)
        Pixels in [0, 1], which span about 80 dB.
    decibels : float
        Standard deviation of the smooth curve over frequency that is added, about; 0 changes nothing.

    Returns
    -------
    x : torch.Tensor
        In [0, 1]. What is at the bottom of the scale, silence, stays there.
    """
    if not decibels:
        return x
    waves = torch.arange(1, 5)[:, None] * torch.linspace(0, torch.pi, x.shape[2])
    heights, phases = torch.randn(len(x), 4, 1), torch.rand(len(x), 4, 1) * 2 * torch.pi
    # Four cosines, each with a mean square of a half.
    curve = (heights * torch.cos(waves + phases)).sum(dim=1) * (decibels / 80 / 2**0.5)
    return (x + curve.to(x.device)[:, None, :, None] * (x > 0)).clamp(0, 1)


def mask(x, n):
    """Blank out `n` stretches of time and `n` of frequency with the picture's mean.

    Park et al., "SpecAugment" (2019), without the warping.

    Parameters
    ----------
    x : torch.Tensor, shape (B, C, H, W)
        Pixels.
    n : int
        Masks along each axis; 0 changes nothing.
    """
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    for axis in [2, 3] * n:
        length = x.shape[axis]
        size = torch.rand(len(x), 1) * WIDEST_MASK * length
        start = torch.rand(len(x), 1) * (length - size)
        at = torch.arange(length)
        hidden = ((at >= start) & (at < start + size)).to(x.device)
        hidden = hidden[:, None, :, None] if axis == 2 else hidden[:, None, None, :]
        x = torch.where(hidden, mean, x)
    return x
