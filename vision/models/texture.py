"""Texture statistics of a spectrogram: how it changes over time and frequency, in 1636 fixed numbers.

How they work. A drum beat, a chord or vibrato is a ripple on the spectrogram: so many cycles a pixel along frequency
(its scale) and along time (its rate). A Gabor filter is a wave under a Gaussian window,

    g(t) = exp(-t^2 / (2 s^2)) exp(2 pi i c t),

normalised to a sum of 1 without the wave; it responds to ripples near its centre frequency c, with a standard deviation
of 1 / (2 pi s) in frequency. Each pair of a scale of `SCALES` and a rate of `RATES` gives a two-dimensional filter, the
product of one along each axis, for ripples that rise and once more for those that fall. The magnitude of its response
is averaged in `POOLED` frequency bands; the logarithms of its mean and of its standard deviation over time are
statistics. This follows the spectro-temporal modulations of Chi, Ru and Shamma, "Multiresolution spectrotemporal
analysis of complex sounds" (2005), and the scattering transform of Anden and Mallat, "Deep Scattering Spectrum" (2014).

Beside them, as of MFCC: mean, standard deviation and mean absolute step of the level in `BANDS` bands; and of the first
`COEFFICIENTS` DCT coefficients along frequency the covariances over time, v as sign(v) log(1 + |v|), and the logarithms
of the standard deviations of their steps. Nothing is learned.
"""

import math

import torch
from torch import nn

#: Cycles a pixel, along frequency and along time. 0 is the slowly varying part.
SCALES = (0.0, 1 / 16, 1 / 8, 1 / 4)

RATES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.4)

#: A filter's centre frequency, in standard deviations of its frequency response.
QUALITY = 2.2

#: Least standard deviation of a filter's frequency response along frequency and along time, in cycles a pixel.
NARROWEST = (1 / 64, 1 / 128)

#: Frequency bands over which responses are averaged, bands whose level is described, DCT coefficients.
POOLED, BANDS, COEFFICIENTS = 16, 32, 24

#: The picture's 256 levels span about 80 dB: the statistics are of decibels.
DECIBELS = 80.0

#: Added before a square root, whose slope at 0 is infinite. Slightly above 1e-8, which PyTorch's ONNX exporter takes
#: for 0 and leaves out, so that silence would have other statistics there.
LEAST = 1.0001e-8


def gabor(length: int, centre: float, narrowest: float) -> torch.Tensor:
    """A Gabor filter along one axis, as a matrix that filters and subsamples.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    centre : float
        Frequency in cycles a pixel; 0 gives a low-pass filter.
    narrowest : float
        Least standard deviation in frequency, in cycles a pixel.

    Returns
    -------
    matrix : torch.Tensor, shape (n, length), complex64
        Rows are the filter at `n` evenly spaced positions, with the picture mirrored at its ends.
    """
    deviation = max(centre / QUALITY, narrowest)
    spread = 1 / (2 * math.pi * deviation)  # of the Gaussian in pixels
    step = max(1, round(1 / (4 * deviation)))
    places = torch.arange(0, length, step, dtype=torch.float64) + (((length - 1) % step) / 2)
    reach = math.ceil(2.5 * spread)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    wave = torch.exp(-0.5 * (offsets / spread) ** 2)
    wave = torch.polar(wave / wave.sum(), 2 * math.pi * centre * offsets)
    at = (places[:, None].floor() + offsets).long()
    period = 2 * (length - 1)
    at = at.remainder(period)
    at = torch.where(at >= length, period - at, at)
    matrix = torch.zeros(len(places), length, dtype=torch.complex128)
    matrix.scatter_add_(1, at, wave.expand(len(places), -1))
    return matrix.to(torch.complex64)


def _averages(n: int, groups: int) -> torch.Tensor:
    """A matrix (groups, n) of means over `groups` equal parts of `n` pixels; pixels at their borders are shared."""
    edges = torch.linspace(0, n, groups + 1, dtype=torch.float64)
    at = torch.arange(n, dtype=torch.float64)
    share = torch.minimum(edges[1:, None], at + 1) - torch.maximum(edges[:-1, None], at)
    share = share.clamp_min(0)
    return (share / share.sum(dim=1, keepdim=True)).float()


class Texture(nn.Module):
    """Texture statistics; see the top of this module.

    Filters are matrices, so that all of it is matrix products and runs on every device.

    Parameters
    ----------
    height, width : int
        Of the pictures, in pixels.

    Attributes
    ----------
    n_statistics : int
        How many numbers describe a picture.
    """

    times_real: torch.Tensor
    times_imag: torch.Tensor
    over_time: torch.Tensor
    every_time: torch.Tensor
    bands: torch.Tensor
    dct: torch.Tensor
    upper: torch.Tensor

    def __init__(self, height: int, width: int):
        super().__init__()

        def keep(name, tensor):
            self.register_buffer(name, tensor.float().contiguous(), persistent=False)

        times = [gabor(width, rate, NARROWEST[1]) for rate in RATES]
        keep("times_real", torch.cat(times).real.T)
        keep("times_imag", torch.cat(times).imag.T)
        counts = [len(matrix) for matrix in times]
        over_time = torch.block_diag(*[torch.full((n, 1), 1 / n) for n in counts])
        keep("over_time", over_time)
        keep("every_time", (over_time > 0).T)
        for number, scale in enumerate(SCALES):
            matrix = gabor(height, scale, NARROWEST[0])
            keep(f"rows_real_{number}", matrix.real)
            keep(f"rows_imag_{number}", matrix.imag)
            keep(f"pool_{number}", _averages(len(matrix), POOLED))
        keep("bands", _averages(height, BANDS))
        rows = torch.arange(height, dtype=torch.float64)
        order = torch.arange(COEFFICIENTS, dtype=torch.float64)
        dct = torch.cos(math.pi / height * (rows + 0.5) * order[:, None]) * math.sqrt(2 / height)
        dct[0] /= math.sqrt(2)
        keep("dct", dct)
        upper = torch.triu_indices(COEFFICIENTS, COEFFICIENTS)
        self.register_buffer("upper", upper[0] * COEFFICIENTS + upper[1], persistent=False)
        with torch.no_grad():
            self.n_statistics = self(torch.zeros(1, 1, height, width)).shape[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return statistics, shape (B, n_statistics), of pixels in [0, 1], shape (B, C, H, W)."""
        # bf16 would round away the small differences that the statistics consist of.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().mean(dim=1) * DECIBELS
            statistics = self._levels(x) + self._covariances(x)
            x = x - x.mean(dim=(1, 2), keepdim=True)
            for number in range(len(SCALES)):
                statistics += self._ripples(x, number)
            return torch.cat([part.flatten(1) for part in statistics], dim=1)

    def _levels(self, x: torch.Tensor) -> list[torch.Tensor]:
        bands = self.bands @ x
        return [bands.mean(dim=2), _deviation(bands), (bands[..., 1:] - bands[..., :-1]).abs().mean(dim=2)]

    def _covariances(self, x: torch.Tensor) -> list[torch.Tensor]:
        coefficients = self.dct @ x
        centred = coefficients - coefficients.mean(dim=2, keepdim=True)
        products = (centred @ centred.transpose(1, 2) / x.shape[2]).flatten(1)[:, self.upper]
        steps = coefficients[..., 1:] - coefficients[..., :-1]
        return [products.sign() * products.abs().log1p(), (_deviation(steps) + 1e-2).log()]

    def _ripples(self, x: torch.Tensor, number: int) -> list[torch.Tensor]:
        real = getattr(self, f"rows_real_{number}") @ x
        a, d = real @ self.times_real, real @ self.times_imag
        if number == 0:  # no ripple along frequency: rising and falling ones are the same
            both = [a.square() + d.square()]
        else:
            imag = getattr(self, f"rows_imag_{number}") @ x
            b, c = imag @ self.times_imag, imag @ self.times_real
            both = [(a - b).square() + (d + c).square(), (a + b).square() + (d - c).square()]
        statistics = []
        for falling, power in enumerate(both):
            pooled = getattr(self, f"pool_{number}") @ (power + LEAST).sqrt()
            mean = pooled @ self.over_time
            # Not the mean square less the squared mean: for a steady sound only rounding errors would be left.
            deviation = ((pooled - mean @ self.every_time).square() @ self.over_time).clamp_min(1e-8).sqrt()
            # Of rate 0 there is one direction, and at scale 0 it is the level itself.
            first = 1 if number == 0 or falling else 0
            statistics += [(part[..., first:] + 1e-2).log() for part in (mean, deviation)]
        return statistics


def _deviation(x: torch.Tensor) -> torch.Tensor:
    """Standard deviation over time; `Tensor.std` without bias cannot be exported everywhere."""
    return (x - x.mean(dim=2, keepdim=True)).square().mean(dim=2).add(LEAST).sqrt()
