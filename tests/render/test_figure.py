"""Figures for people: `--style figure`."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from render import png
from render.__main__ import main
from render.settings import Settings
from tests.render.conftest import SR, make_chord
from vision.data.images import load


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mel", "features"])
def test_figures_are_drawn_fresh_and_refused_by_vision(chords, tmp_path, capsys, request, kind):
    if kind == "features":  # once through workers is enough
        request.getfixturevalue("draw_here")
    for path in [*chords.glob("*/b.wav"), *chords.glob("*/c.wav")]:
        path.unlink()
    soundfile.write(chords / "blues" / "cost $5 \N{GUITAR}.wav", make_chord(5), SR)
    flags = [str(chords), "-o", str(tmp_path / "figures"), "--style", "figure", "--kind", kind]
    assert main(flags) == 0
    path = tmp_path / "figures" / "jazz" / "a.png"
    image = Image.open(path)
    assert image.size == (960, 540)
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 200
    before = path.read_bytes()
    assert main(flags) == 0
    assert "3 fresh already" in capsys.readouterr().out
    assert main([*flags, "--force"]) == 0
    assert path.read_bytes() == before
    with pytest.raises(png.PictureError, match="figure for people"):
        png.read(path)
    with pytest.raises(png.PictureError, match="without --style figure"):
        load(path)
    # Asked for pixels in the same folder, render draws them anew.
    assert main([str(chords), "-o", str(tmp_path / "figures")]) == 0
    assert Image.open(path).mode == "P"


def test_the_frequency_axis_is_where_a_tone_is(tmp_path):
    """The brightest row of a tone's figure stands at the tick of its frequency."""
    from matplotlib.figure import Figure

    from render.figure import _label_frequencies
    from render.spectrogram import mel_spectrogram

    for settings in (Settings(), Settings(htk=True, fmin=100.0, fmax=8000.0, n_mels=200)):
        axes = Figure().add_subplot()
        _label_frequencies(axes, settings)
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
            hz = float(label.get_text())
            S_db = mel_spectrogram(np.sin(2 * np.pi * hz * np.arange(SR) / SR).astype(np.float32), settings)
            assert abs(S_db.mean(axis=1).argmax() - place) < 1.5, (settings, hz)
