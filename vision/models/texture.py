"""What a spectrogram's texture is like: fixed statistics of how it changes over time and frequency."""

import math

import torch
from torch import nn

#: Cycles a pixel, along frequency and along time. 0 is the slowly varying part.
SCALES = (0.0, 1 / 16, 1 / 8, 1 / 4)

RATES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.4)

#: A filter's centre is so many of its standard deviations above zero.
QUALITY = 2.2

#: Filters at zero, and slow ones, get no narrower than this (cycles a pixel).
NARROWEST = (1 / 64, 1 / 128)

#: Frequency bands over which the answers are averaged, bands whose level is described, DCT coefficients.
POOLED, BANDS, COEFFICIENTS = 16, 32, 24

#: The picture's 256 levels span about 80 dB: the statistics are of decibels.
DECIBELS = 80.0

#: Added before a root, whose slope at 0 is infinite. A hair above 1e-8, which PyTorch's ONNX exporter takes for 0 and
#: leaves out: silence would then be described differently there.
LEAST = 1.0001e-8


def gabor(length, centre, narrowest):
    """A Gabor filter along one axis, as a matrix that filters and thins out.

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
        Rows are the filter at `n` places, with the picture mirrored at its ends.
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


def _averages(n, groups):
    """A matrix (groups, n) of means over `groups` equal stretches of `n` places, shared at the borders."""
    edges = torch.linspace(0, n, groups + 1, dtype=torch.float64)
    at = torch.arange(n, dtype=torch.float64)
    share = torch.minimum(edges[1:, None], at + 1) - torch.maximum(edges[:-1, None], at)
    share = share.clamp_min(0)
    return (share / share.sum(dim=1, keepdim=True)).float()


class Texture(nn.Module):
    """Statistics of a spectrogram's texture. Nothing in it is learned.

    Gabor filters that answer to ripples along frequency (`SCALES`), along time (`RATES`) and to both
    at once, rising and falling, are applied to the picture; the mean and the deviation over time of
    the answers' magnitudes are taken in `POOLED` bands, as logarithms. After the spectro-temporal
    modulations of Chi, Ru and Shamma (2005) and the scattering transform of Anden and Mallat (2014).
    Beside them: mean, deviation and mean step of the levels in `BANDS` bands, and the covariances and
    deviations of step of `COEFFICIENTS` DCT coefficients along frequency (as of MFCC, over time).

    Filters are matrices, so that all of it is products of matrices: it runs on every device.

    Parameters
    ----------
    height, width : int
        Of the pictures, in pixels.

    Attributes
    ----------
    n_statistics : int
        How many numbers describe a picture.
    """

    def __init__(self, height, width):
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
        # Along frequency alone and along time alone there is one direction; the first filter, 0 and 0, is the level.
        self.n_rates = len(RATES)
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

    def forward(self, x):
        """Return statistics, shape (B, n_statistics), of pixels in [0, 1], shape (B, C, H, W)."""
        # A matrix product in bf16 would round the small differences that these are about.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().mean(dim=1) * DECIBELS
            found = self._levels(x) + self._covariances(x)
            x = x - x.mean(dim=(1, 2), keepdim=True)
            for number in range(len(SCALES)):
                found += self._ripples(x, number)
            return torch.cat([part.flatten(1) for part in found], dim=1)

    def _levels(self, x):
        bands = self.bands @ x
        return [bands.mean(dim=2), _deviation(bands), (bands[..., 1:] - bands[..., :-1]).abs().mean(dim=2)]

    def _covariances(self, x):
        coefficients = self.dct @ x
        centred = coefficients - coefficients.mean(dim=2, keepdim=True)
        products = (centred @ centred.transpose(1, 2) / x.shape[2]).flatten(1)[:, self.upper]
        steps = coefficients[..., 1:] - coefficients[..., :-1]
        return [products.sign() * products.abs().log1p(), (_deviation(steps) + 1e-2).log()]

    def _ripples(self, x, number):
        real = getattr(self, f"rows_real_{number}") @ x
        a, d = real @ self.times_real, real @ self.times_imag
        if number == 0:  # no ripple along frequency: rising and falling are the same
            both = [a.square() + d.square()]
        else:
            imag = getattr(self, f"rows_imag_{number}") @ x
            b, c = imag @ self.times_imag, imag @ self.times_real
            both = [(a - b).square() + (d + c).square(), (a + b).square() + (d - c).square()]
        found = []
        for falling, power in enumerate(both):
            pooled = getattr(self, f"pool_{number}") @ (power + LEAST).sqrt()
            mean = pooled @ self.over_time
            # Not the mean square less the squared mean: of a steady sound, rounding is all that would be left.
            deviation = ((pooled - mean @ self.every_time).square() @ self.over_time).clamp_min(1e-8).sqrt()
            # Of rate 0 there is one direction, and at scale 0 it is the level itself.
            first = 1 if number == 0 or falling else 0
            found += [(part[..., first:] + 1e-2).log() for part in (mean, deviation)]
        return found


def _deviation(x):
    """Standard deviation over time: `Tensor.std` has no bias to choose in every exporter, and this is plain."""
    return (x - x.mean(dim=2, keepdim=True)).square().mean(dim=2).add(LEAST).sqrt()
