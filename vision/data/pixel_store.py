"""Decoded pictures of any width: in memory, and beyond a size in a memory-mapped file."""

import math
import tempfile

import numpy as np
import torch

#: Bytes of decoded pictures that are kept in memory; more go to a file. 40 000 tracks of 30 s at 128 pixels for 10 s.
IN_MEMORY = 2 << 30


class PixelStore:
    """Pictures as uint8 pixels, one after the other.

    Parameters
    ----------
    pixels : torch.Tensor, shape (n_bytes,), uint8
        Each picture (channels, height, width), flattened.
    widths : sequence of int
        In pixels, at least `height` each.
    channels, height : int
        The same for all.
    path : str or Path, optional
        The file that `pixels` is a map of.
    """

    def __init__(self, pixels, widths, channels, height, path=None):
        self.pixels, self.channels, self.height, self._path = pixels, channels, height, path
        self.widths = torch.as_tensor(widths, dtype=torch.int64)
        self._ends = (self.widths * channels * height).cumsum(0).tolist()

    @classmethod
    def collect(cls, pictures, *, channels, height, folder=None, path=None):
        """Take in pictures as they come, holding no more than `IN_MEMORY` bytes of them.

        Parameters
        ----------
        pictures : iterable of torch.Tensor, shape (channels, height, width), uint8
            Of any widths.
        channels, height : int
            Of each.
        folder : str or Path, optional
            Where the file goes if one is needed: it has no name, so nothing is left of it, whatever
            happens. By default the system's temporary folder.
        path : str or Path, optional
            Put them into a file of this name, however few they are: pickled, the store is this name, so that
            other processes map the same pixels. Who gives it deletes it when all have.
        """
        held, widths, total, file = [], [], 0, None
        if path:
            file = open(path, "w+b")  # noqa: SIM115  # lives as long as the map of it
        for x in pictures:
            widths.append(x.shape[-1])
            flat = x.contiguous().view(-1)
            total += len(flat)
            held.append(flat)
            if total > IN_MEMORY and file is None:
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # lives as long as the map of it
            if file:
                for flat in held:
                    flat.numpy().tofile(file)
                held = []
        if file and total:
            file.flush()
            return cls(_map(file, total), widths, channels, height, path)
        return cls(torch.cat(held) if held else torch.empty(0, dtype=torch.uint8), widths, channels, height)

    @classmethod
    def of(cls, x):
        """Hold one tensor (n, channels, height, width), uint8."""
        n, channels, height, width = x.shape
        return cls(x.contiguous().view(-1), [width] * n, channels, height)

    def __reduce__(self):
        pixels = self.pixels if self._path is None else None
        return _restore, (pixels, self.widths, self.channels, self.height, self._path)

    def __len__(self):
        return len(self.widths)

    def __getitem__(self, number):
        """Return one picture, (channels, height, width), without copying it."""
        start = self._ends[number - 1] if number else 0
        return self.pixels[start : self._ends[number]].view(self.channels, self.height, -1)

    def select(self, numbers):
        """Return some of the pictures, in this order, copied."""
        pictures = (self[number] for number in numbers)
        return type(self).collect(pictures, channels=self.channels, height=self.height)

    def cut(self, chosen, starts):
        """Copy a window as wide as it is high out of each of some pictures.

        Parameters
        ----------
        chosen, starts : sequence of int, length n
            Which pictures, and the left edge of the window in each.

        Returns
        -------
        x : torch.Tensor, shape (n, channels, height, height), uint8
        """
        side = self.height
        parts = [self[number][:, :, start : start + side] for number, start in zip(chosen, starts, strict=True)]
        return torch.stack(parts)

    def random_windows(self, chosen, stretch=0.0, shift=0.0):
        """Cut a window at a random place out of each chosen picture, played faster or slower, higher or lower.

        Rows and columns are dropped and repeated, never blended: blending makes pictures smooth, which
        dev's and test's are not, and cost more accuracy than stretching and shifting gave.

        Parameters
        ----------
        chosen : torch.Tensor, shape (n,), int64
            Which pictures.
        stretch : float
            Up to this share faster or slower, on a logarithmic scale.
        shift : float
            Up to this share of the height up or down; what is beyond the edge repeats the edge.

        Returns
        -------
        x : torch.Tensor, shape (n, channels, height, height), uint8
        """
        side, n = self.height, len(chosen)
        place, speed, rise = torch.rand(n), torch.rand(n) * 2 - 1, torch.rand(n) * 2 - 1
        taken = (side * torch.exp(speed * stretch)).minimum(self.widths[chosen]) if stretch else torch.full((n,), side)
        starts = place * (self.widths[chosen] - taken + 1).clamp_min(1)
        if not (stretch or shift):
            return self.cut(chosen.tolist(), starts.long().minimum(self.widths[chosen] - side).tolist())
        middles = torch.arange(side) + 0.5
        columns = (starts.floor()[:, None] + middles * (taken / side)[:, None]).long()
        columns = columns.minimum(self.widths[chosen][:, None] - 1)
        rows = (torch.arange(side) + (rise * shift * side).round().long()[:, None]).clamp(0, side - 1)
        parts = np.empty((n, self.channels, side, side), np.uint8)
        for part, number, row, column in zip(parts, chosen.tolist(), rows.numpy(), columns.numpy(), strict=True):
            # numpy's take is many times quicker than torch's indexing here.
            whole = self[number].numpy()
            left = column[0]
            np.take(whole[:, row, left : column[-1] + 1], column - left, axis=2, out=part, mode="clip")
        return torch.from_numpy(parts)

    def starts(self, number):
        """Left edges of the windows that a picture is scored by: evenly spaced, covering it once."""
        width = int(self.widths[number])
        n = math.ceil(width / self.height - 0.25)  # a short rest is not worth a window of its own
        return torch.linspace(0, width - self.height, n).round().long().tolist()

    def mean_over_windows(self, predict, numbers=None):
        """Probabilities for each picture: the mean over its windows.

        Parameters
        ----------
        predict : callable
            Takes windows, (number, left edge) each, and yields some of them, in order, with their
            probabilities, (n, n_classes), float32; see `engine.predict_windows`.
        numbers : sequence of int, optional
            Which pictures; by default all.

        Returns
        -------
        probabilities : torch.Tensor, shape (n, n_classes), float32
            Shape (0, 0) where there is nothing to do.
        """
        numbers = range(len(self)) if numbers is None else numbers
        starts = [self.starts(number) for number in numbers]
        if not starts:
            return torch.empty(0, 0)
        windows = [(number, start) for number, mine in zip(numbers, starts, strict=True) for start in mine]
        found = torch.cat([part for _, part in predict(windows)])
        return torch.stack([part.double().mean(dim=0) for part in found.split([len(mine) for mine in starts])]).float()

    def mean_and_std(self):
        """Mean and standard deviation of each channel's pixels, as shares of 255: two lists."""
        counts = np.zeros((self.channels, 256), np.int64)
        for number in range(len(self)):
            for channel, pixels in enumerate(self[number]):
                counts[channel] += np.bincount(pixels.reshape(-1).numpy(), minlength=256)
        levels = np.arange(256) / 255
        share = counts / counts.sum(axis=1, keepdims=True)
        mean = share @ levels
        std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
        return mean.tolist(), std.clip(1e-3).tolist()


def _map(file, size):
    return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=size))


def _restore(pixels, widths, channels, height, path):
    if path is not None:
        pixels = _map(path, int(widths.sum()) * channels * height)
    return PixelStore(pixels, widths, channels, height, path)


#: Pictures scored at a time; it changes no result, only the memory taken.
EVAL_BATCH = 64


def to_pixels(x, device):
    """Bring stored pictures to the network: uint8 to float32 in [0, 1], (B, C, H, W), channels last."""
    # Moved as bytes, a quarter of the traffic of floats. MPS knows no float64, so never by a numpy scalar.
    return x.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
