"""Decoded pictures of any width: in memory, and beyond a size in a memory-mapped file."""

import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

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

    def __init__(
        self,
        pixels: torch.Tensor,
        widths: Sequence[int] | torch.Tensor,
        channels: int,
        height: int,
        path: str | Path | None = None,
    ):
        self.pixels, self.channels, self.height, self._path = pixels, channels, height, path
        self.widths = torch.as_tensor(widths, dtype=torch.int64)
        self._ends = (self.widths * channels * height).cumsum(0).tolist()

    @classmethod
    def collect(
        cls,
        pictures: Iterable[torch.Tensor],
        *,
        channels: int,
        height: int,
        folder: str | Path | None = None,
        path: str | Path | None = None,
    ) -> "PixelStore":
        """Take in pictures as they come, holding no more than `IN_MEMORY` bytes of them.

        Parameters
        ----------
        pictures : iterable of torch.Tensor, shape (channels, height, width), uint8
            Of any widths.
        channels, height : int
            Of each.
        folder : str or Path, optional
            Where the file goes if one is needed. It has no name, so nothing is left of it however the process
            ends. By default the system's temporary folder.
        path : str or Path, optional
            Put them into a file of this name, however few they are. A pickled store then holds the name only, and
            other processes map the same pixels. The caller deletes the file once every process has mapped it.
        """
        widths: list[int] = []
        # One block of memory that grows, because many small ones leave as much unused between them. A file lives as
        # long as the map of it.
        file: BinaryIO = open(path, "w+b") if path else io.BytesIO()  # noqa: SIM115
        for x in pictures:
            widths.append(x.shape[-1])
            if isinstance(file, io.BytesIO) and file.tell() + x.numel() > IN_MEMORY:
                held, file = file, tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
                file.write(held.getbuffer())
                del held
            file.write(x.contiguous().numpy().data)
        total = file.tell()
        if not total:
            return cls(torch.empty(0, dtype=torch.uint8), widths, channels, height)
        if isinstance(file, io.BytesIO):
            return cls(torch.frombuffer(file.getbuffer(), dtype=torch.uint8), widths, channels, height)
        file.flush()
        return cls(_map(file, total), widths, channels, height, path)

    @classmethod
    def of(cls, x: torch.Tensor) -> "PixelStore":
        """Hold one tensor (n, channels, height, width), uint8."""
        n, channels, height, width = x.shape
        return cls(x.contiguous().view(-1), [width] * n, channels, height)

    def __reduce__(self) -> tuple:
        pixels = self.pixels if self._path is None else None
        return _restore, (pixels, self.widths, self.channels, self.height, self._path)

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, number: int) -> torch.Tensor:
        """Return one picture, (channels, height, width), without copying it."""
        start = self._ends[number - 1] if number else 0
        return self.pixels[start : self._ends[number]].view(self.channels, self.height, -1)

    def select(self, numbers: Iterable[int]) -> "PixelStore":
        """Return some of the pictures, in this order, copied."""
        pictures = (self[number] for number in numbers)
        return type(self).collect(pictures, channels=self.channels, height=self.height)

    def cut(self, chosen: Sequence[int], starts: Sequence[int]) -> torch.Tensor:
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

    def random_windows(self, chosen: torch.Tensor, stretch: float = 0.0, shift: float = 0.0) -> torch.Tensor:
        """Cut a window at a random place out of each chosen picture, with a random tempo and vertical shift.

        Rows and columns are dropped and repeated, never blended. Blending makes pictures smoother than those of dev
        and test, and cost more accuracy than stretching and shifting gained.

        Parameters
        ----------
        chosen : torch.Tensor, shape (n,), int64
            Which pictures.
        stretch : float
            Maximum change of tempo, as the natural logarithm of the ratio: 0.1 is up to about a tenth.
        shift : float
            Maximum vertical shift, as a fraction of the height; rows beyond the edge repeat the edge.

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
            pixels = self[number].numpy()
            left = column[0]
            np.take(pixels[:, row, left : column[-1] + 1], column - left, axis=2, out=part, mode="clip")
        return torch.from_numpy(parts)

    def starts(self, number: int) -> list[int]:
        """Left edges of the windows that a picture is scored by: evenly spaced, covering it once."""
        width = int(self.widths[number])
        n = math.ceil(width / self.height - 0.25)  # a short rest is not worth a window of its own
        return torch.linspace(0, width - self.height, n).round().long().tolist()

    def mean_over_windows(
        self,
        predict: Callable[[list[tuple[int, int]]], Iterator[tuple[Sequence[tuple[int, int]], torch.Tensor]]],
        numbers: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Probabilities for each picture: the mean over its windows.

        Parameters
        ----------
        predict : callable
            Takes windows, (number, left edge) each, and yields some of them, in order, with their
            probabilities, (n, n_classes), float32; see `inference.windows.predict_windows`.
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
        windows = [(number, start) for number, edges in zip(numbers, starts, strict=True) for start in edges]
        probabilities = torch.cat([part for _, part in predict(windows)])
        parts = probabilities.split([len(edges) for edges in starts])
        return torch.stack([part.double().mean(dim=0) for part in parts]).float()

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel's pixels, where 255 is 1."""
        counts = np.zeros((self.channels, 256), np.int64)
        for number in range(len(self)):
            for channel, pixels in enumerate(self[number]):
                counts[channel] += np.bincount(pixels.reshape(-1).numpy(), minlength=256)
        levels = np.arange(256) / 255
        share = counts / counts.sum(axis=1, keepdims=True)
        mean = share @ levels
        std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
        return mean.tolist(), std.clip(1e-3).tolist()


def _map(file: Any, size: int) -> torch.Tensor:
    return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=size))


def _restore(
    pixels: torch.Tensor | None, widths: torch.Tensor, channels: int, height: int, path: str | Path | None
) -> PixelStore:
    if pixels is None:
        pixels = _map(path, int(widths.sum()) * channels * height)
    return PixelStore(pixels, widths, channels, height, path)


#: Pictures scored at a time; it changes no result, only the memory taken.
EVAL_BATCH = 64


def to_pixels(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move stored pictures to the device: uint8 to float32 in [0, 1], (B, C, H, W), channels last."""
    # Moved as bytes, a quarter of the traffic of floats. MPS knows no float64, so never by a numpy scalar.
    return x.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
