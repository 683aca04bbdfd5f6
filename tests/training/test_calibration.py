"""A temperature is fitted where there are tracks enough to tell."""

import numpy as np
import pytest
import torch

from vision.data.pixel_store import PixelStore
from vision.reports import metrics
from vision.training.calibration import LEAST, calibrate, calibrated_loss


class Fixed(torch.nn.Module):
    """A network whose logits were chosen beforehand: the first pixels of a picture, as a share of 255, times 10."""

    def __init__(self, n_classes):
        super().__init__()
        self.n_classes = n_classes
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x):
        return x[:, 0, 0, : self.n_classes] * 10 / self.temperature


def logits_store(logits):
    """Pictures that `Fixed` answers with these logits, rounded to 10/255."""
    x = torch.zeros(len(logits), 1, 8, 8, dtype=torch.uint8)
    x[:, 0, 0, : logits.shape[1]] = (logits / 10 * 255).round().to(torch.uint8)
    return PixelStore.of(x)


def drawn(n, factor, seed=0):
    """Logits, and labels that occur as often as the logits times `factor` say."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.rand(n, 4, generator=generator) * 4 + 3
    y = torch.multinomial((logits * factor).softmax(dim=1), 1, generator=generator)[:, 0]
    return logits, y


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_temperature_of_logits_is_recovered(factor):
    logits, y = drawn(4000, factor)
    model, x = Fixed(4), logits_store(logits)
    before = metrics.score(y.numpy(), logits.softmax(dim=1).numpy())
    temperature = calibrate(model, x, y)
    assert temperature == pytest.approx(1 / factor, rel=0.15)
    after = metrics.score(y.numpy(), (logits / temperature).softmax(dim=1).numpy())
    assert after["calibration_error"] < 0.03
    assert after["accuracy"] == before["accuracy"]
    assert calibrate(model, x, y) == pytest.approx(temperature), "a second call starts from 1 again"


def test_few_tracks_and_perfect_predictions_are_not_calibrated():
    logits, y = drawn(LEAST - 1, 1.0)
    assert calibrate(Fixed(4), logits_store(logits), y) == 1
    logits, _ = drawn(200, 1.0)
    assert (
        calibrate(Fixed(4), logits_store(logits), logits_store(logits).pixels.view(200, 64)[:, :4].argmax(dim=1)) == 1
    )


def test_the_calibrated_loss_does_not_depend_on_the_temperature():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 200)
    logits = rng.standard_normal((200, 4)) + 1.5 * np.eye(4)[y]
    losses, raw = [], []
    for temperature in (0.7, 1.0, 1.6):
        p = np.exp(logits / temperature)
        p /= p.sum(axis=1, keepdims=True)
        losses.append(calibrated_loss(y, p))
        raw.append(-np.log(p[np.arange(200), y]).mean())
    assert np.ptp(losses) < 1e-4 < np.ptp(raw)
    assert all(best <= loss + 1e-9 for best, loss in zip(losses, raw, strict=True))
