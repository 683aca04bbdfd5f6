"""musicnn on spectrogram pictures: the way from pixels to its input, and the two ways to use it.

Its input is Mel power at 16 kHz in 96 bands and frames of 16 ms (`vision.models.musicnn`). A picture holds decibels of
other bands and frames, so it is interpolated, linearly in Mel and in time. Frames made so are smoother than those of
any recording, and what the network has learned of noise and attacks is lost on them: noise of `NOISE` dB, always the
same, stands in for what is missing. Where a picture's columns are as fine as the frames nothing is added.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from render.errors import MelvisionError
from render.settings import Settings
from vision.models.musicnn import BANDS, EMBEDDING, HOP_LENGTH, N_FFT, SR, Musicnn

#: Seconds of a frame of musicnn's input.
FRAME = HOP_LENGTH / SR

#: Standard deviation of the noise on interpolated frames, in dB.
NOISE = 3.0

#: Columns of up to so many frames need no noise.
FINE = 1.25

#: log10 of the power, as musicnn measures it, of the loudest place of a track. Pictures whose 0 dB is the track's own
#: peak do not say it. Measured on GTZAN audio.
LOUDEST = 1.93

#: A discriminant's decision values are divided by this to be logits, because those of one window are too sure.
SOFTNESS = 2.0

#: Share of the plain covariance in the discriminant: 200 numbers of a few hundred tracks cannot tell all of it.
SHRINKAGE = 0.3

#: Windows that go through the network at a time: its first layers take 50 MB for each.
AT_ONCE = 1

#: Embeddings of windows that are remembered, at most; 800 bytes each.
REMEMBERED = 50_000


#: Embeddings by what they are of; see `MusicnnExpert`.
_memory: dict[bytes, torch.Tensor] = {}


class PictureToMel(nn.Module):
    """From a window of a picture to musicnn's input; see the top of this module.

    Parameters
    ----------
    size : int
        Height and width of the window, in pixels.
    seconds_per_pixel : float
        Time that a column spans.
    render : mapping, optional
        How the train pictures were drawn, as `render.settings.Settings`; the defaults for other programs' pictures.

    Raises
    ------
    MelvisionError
        When they show something else than Mel bands.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    noise: torch.Tensor

    def __init__(self, size: int, seconds_per_pixel: float, render: Mapping[str, Any] | None = None):
        super().__init__()
        settings = Settings.from_dict(render or {})
        if settings.kind != "mel":
            raise MelvisionError(f"musicnn takes Mel spectrograms; the train pictures are of kind {settings.kind}")
        n_frames = max(1, round(size * seconds_per_pixel / FRAME))
        places = (np.arange(n_frames) + 0.5) * FRAME / seconds_per_pixel - 0.5
        noise = np.zeros((BANDS, n_frames))
        if seconds_per_pixel > FINE * FRAME:
            # RandomState, because it draws the same numbers in every version of numpy.
            noise = NOISE * np.random.RandomState(0).standard_normal(noise.shape)
        tensors = {"rows": _interpolation(_row_places(size, settings), size)}
        tensors |= {"columns": _interpolation(places, size).T, "noise": noise}
        for name, values in tensors.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)), persistent=False)
        self.top_db, self.loudest = settings.top_db, LOUDEST
        if isinstance(settings.ref, (int, float)):
            self.loudest = float(np.log10(settings.ref) - 2 * np.log10(settings.n_fft / N_FFT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log10(1 + 1e4 P), shape (B, T, 96), of pixels in [0, 1], shape (B, C, H, W)."""
        S_db = (self.rows @ x.float().mean(dim=1) @ self.columns - 1) * self.top_db + self.noise
        return (1 + 1e4 * 10 ** (S_db / 10 + self.loudest)).log10().transpose(1, 2)


def _row_places(size: int, settings: Settings) -> np.ndarray:
    """The rows, counted from the top and not whole, on which the centres of musicnn's bands lie; NaN beyond the top."""
    import librosa

    centres = librosa.mel_frequencies(BANDS + 2, fmin=0, fmax=SR / 2)[1:-1]
    hz = np.array([settings.fmin, settings.fmax or settings.sr / 2, *centres])
    low, high, *mel = np.asarray(librosa.hz_to_mel(hz, htk=settings.htk))
    band = (np.array(mel) - low) / (high - low) * (settings.n_mels + 1) - 1
    band[band > settings.n_mels - 0.5] = np.nan
    return size - 0.5 - (band + 0.5) * size / settings.n_mels


def _interpolation(places: np.ndarray, n: int) -> np.ndarray:
    """Weights, shape (len(places), n), that interpolate n values linearly at places; none at a place that is NaN."""
    weights = np.zeros((len(places), n))
    for row, place in zip(weights, np.clip(places, 0, n - 1), strict=True):
        if not np.isnan(place):
            first = int(place)
            row[first] = 1 - (place - first)
            if place > first:
                row[first + 1] = place - first
    return weights


class MusicnnExpert(nn.Module):
    """musicnn as it is, and a linear discriminant that tells genres by its embedding.

    Nothing is trained by gradients: the discriminant (Fisher, 1936) is fitted once, to the mean embedding of each train
    picture, before the first epoch.

    Parameters
    ----------
    n_classes : int
        Genres.
    size, seconds_per_pixel, render
        As of `PictureToMel`.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, n_classes: int, *, size: int, seconds_per_pixel: float, render: Mapping[str, Any] | None = None):
        super().__init__()
        self.to_mel = PictureToMel(size, seconds_per_pixel, render)
        self.net = Musicnn().requires_grad_(False)
        self.register_buffer("weight", torch.zeros(EMBEDDING, n_classes))
        self.register_buffer("bias", torch.zeros(n_classes))

    def statistics(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings, shape (B, 200), of pixels in [0, 1], shape (B, C, H, W)."""
        # In fp32: bf16 would round the large powers of quiet and loud bands to the same few values.
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
                return self.net(self.to_mel(x))
            return self._remembered(x)

    def _remembered(self, x: torch.Tensor) -> torch.Tensor:
        """As `statistics`, looked up where the same pixels were asked for before: training asks several times."""
        if len(_memory) > REMEMBERED:
            _memory.clear()
        model = hashlib.blake2b()
        for tensor in (*self.state_dict().values(), *self.to_mel.buffers()):
            model.update(tensor.numpy().tobytes())
        keys = [hashlib.blake2b(one.numpy().tobytes(), key=model.digest()).digest() for one in x]
        new = [number for number, key in enumerate(keys) if key not in _memory]
        for at in range(0, len(new), AT_ONCE):
            part = new[at : at + AT_ONCE]
            for number, embedding in zip(part, self.net(self.to_mel(x[part])), strict=True):
                _memory[keys[number]] = embedding
        return torch.stack([_memory[key] for key in keys])

    def classify(self, statistics: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (B, n_classes), of embeddings, shape (B, 200)."""
        with torch.autocast(statistics.device.type, enabled=False):
            return (statistics @ self.weight + self.bias) / SOFTNESS

    @torch.no_grad()
    def fit(self, statistics: torch.Tensor, labels: torch.Tensor, class_weight: torch.Tensor | None = None) -> None:
        """Fit the discriminant.

        Parameters
        ----------
        statistics : torch.Tensor, shape (n, 200)
            The mean embedding of each train picture.
        labels : torch.Tensor, shape (n,), int64
            Their genres.
        class_weight : torch.Tensor, shape (n_classes,), optional
            How much each genre counts; by default by its number of pictures.
        """
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        x, y = statistics.cpu().numpy().astype(np.float64), labels.cpu().numpy()
        genres = np.unique(y)
        found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(x, y)
        weight, bias = found.coef_, found.intercept_
        if len(genres) == 2:  # scikit-learn tells two by one number
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        if class_weight is not None:
            bias = bias + np.log(class_weight.cpu().numpy()[genres])
        self.bias.fill_(-30.0)  # of a genre without a picture
        self.weight[:, genres] = torch.from_numpy(weight.T.astype(np.float32)).to(self.weight.device)
        self.bias[genres] = torch.from_numpy(bias.astype(np.float32)).to(self.bias.device)


class MusicnnNetwork(nn.Module):
    """musicnn with a last layer of its own, to be trained on: ``--model musicnn``.

    Parameters
    ----------
    n_classes : int
        Genres.
    size, seconds_per_pixel, render
        As of `PictureToMel`.
    dropout : float, in [0, 1)
        Before the last layer.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        size: int,
        dropout: float,
        seconds_per_pixel: float,
        render: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.to_mel = PictureToMel(size, seconds_per_pixel, render)
        self.features = Musicnn()
        self.features.tag.requires_grad_(False)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(EMBEDDING, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, n_classes), of pictures, (B, C, H, W)."""
        return self.classifier(self.features(self.to_mel(x)))
