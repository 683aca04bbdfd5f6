"""An explanation in words."""

import numpy as np
import pytest
import torch

from render.settings import Settings
from vision.attribution.explanation import Explanation, frequencies, reason
from vision.attribution.plots import _title


def explanation(bands, settings=None, **more):
    """With evidence by band, the lowest first."""
    fields = {
        "name": "a.wav", "x": torch.zeros(1, 8, 8, dtype=torch.uint8), "start": 0.0, "end": 30.0, "settings": settings,
        "classes": ["metal", "rock"], "probabilities": np.array([0.97, 0.03]), "label": 0, "heat": np.zeros((8, 8)),
        "cam": None, "share": 1.0, "bands": np.array(bands, float)[::-1], "times": np.zeros(3),
    }  # fmt: skip
    return Explanation(**fields | more)


def test_the_reason_names_the_bands_that_decide():
    settings = Settings()
    edges = frequencies(settings, 16)
    top, bottom, middle = np.zeros(16), np.zeros(16), np.zeros(16)
    top[14:], bottom[:3], middle[2:4] = 1, 1, (1, 0.6)
    assert reason(explanation(top, settings)) == f"mostly for what is above {edges[14] / 1000:.1f} kHz"
    assert reason(explanation(bottom, settings)) == f"mostly for what is below {edges[3]:.0f} Hz"
    assert reason(explanation(middle, settings)).endswith(f"between {edges[2]:.0f} Hz and {edges[4]:.0f} Hz")
    middle[3] = 0.4  # too little beside the other
    assert reason(explanation(middle, settings)).endswith(f"between {edges[2]:.0f} Hz and {edges[3]:.0f} Hz")


@pytest.mark.parametrize(("bands", "text"), [
    (np.zeros(16), "for no single band"), (np.full(16, -1.0), "for no single band"),
    (np.ones(16), "for all bands alike"), (np.eye(16)[15], "mostly for its high frequencies"),
    (np.eye(16)[0], "mostly for its low frequencies"), (np.eye(16)[8], "mostly for its middle frequencies"),
])  # fmt: skip
def test_reasons_without_a_frequency_axis(bands, text):
    assert reason(explanation(bands)) == text


def test_the_title_is_a_sentence():
    assert _title(explanation(np.eye(16)[15])) == "metal (97%), mostly for its high frequencies\na.wav"
    other = _title(explanation(np.eye(16)[15], label=1))
    assert other.startswith("metal (97%). What speaks for rock (3%): its high frequencies")
