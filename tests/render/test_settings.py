"""`render.settings`: ranges, and the way through JSON."""

import json
import math

import pytest

from render.errors import ParameterError
from render.settings import Settings
from tests.render.test_spectrogram import SETTINGS, as_id


@pytest.mark.parametrize(
    "name, value",
    [
        *[("sr", value) for value in (0, -22050, 999, 10**6, math.nan)],
        *[("n_fft", value) for value in (0, 15, 1 << 21)],
        *[("hop_length", value) for value in (0, -1, 2049)],
        *[("n_mels", value) for value in (0, 2049)],
        *[("fmin", value) for value in (-1.0, 11025.0, math.nan)],
        *[("fmax", value) for value in (11026.0, math.inf)],
        *[("top_db", value) for value in (0.0, -80.0, 301.0, math.nan)],
        *[("offset", value) for value in (-1.0, math.inf, math.nan)],
        *[("duration", value) for value in (0.0, -1.0, math.inf, math.nan)],
    ],
)
def test_settings_name_the_parameter_that_is_wrong(name, value):
    with pytest.raises(ParameterError, match=f"^{name}=") as caught:
        Settings(**{name: value})
    assert str(value) in str(caught.value)
    assert caught.value.as_flag().startswith(f"--{name.replace('_', '-')} {value}: expected ")


@pytest.mark.parametrize("fmax", [0.0, -1.0, math.nan])
def test_an_empty_band_of_frequencies_is_refused(fmax):
    with pytest.raises(ValueError, match="fmax"):
        Settings(fmax=fmax)


@pytest.mark.parametrize("settings", [*SETTINGS, Settings(offset=1.5, duration=2.0)], ids=as_id)
def test_settings_survive_json(settings):
    values = json.loads(json.dumps(settings.to_dict() | {"version": "x", "source": {}}))
    assert Settings.from_dict(values) == settings


@pytest.mark.parametrize("values", [{"n_fft": "2048"}, {"n_mels": None}, {"top_db": [80]}, {"hop_length": 0}])
def test_settings_from_damaged_dicts_are_refused(values):
    with pytest.raises((TypeError, ValueError)):
        Settings.from_dict(values)
