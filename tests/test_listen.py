"""The command vision.listen, with a microphone that plays a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.conftest import band_noise
from vision import listen
from vision.inference import microphone

ROOT = Path(__file__).parents[2]
#: sounddevice as far as it is used: a microphone that plays a file and is then disconnected.
FAKE = """
import threading, soundfile

class PortAudioError(Exception):
    pass

def query_devices(device, kind):
    if device not in (None, "usb", 7):
        raise ValueError(f"No input device matching {device!r}")
    return {"default_samplerate": 44100.0}

class InputStream:
    def __init__(self, device, channels, samplerate, dtype, callback):
        assert (channels, samplerate, dtype) == (1, 44100, "float32")
        self.y, _ = soundfile.read("recorded.wav", dtype="float32", always_2d=True)
        self.callback = callback

    def __enter__(self):
        def play():
            for at in range(0, len(self.y), 1000):
                block = self.y[at : at + 1000].copy()
                self.callback(block, len(block), None, None)
                block[:] = 0  # PortAudio reuses its memory
        threading.Thread(target=play).start()

    def __exit__(self, *error):
        pass
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Replace sounddevice with a module, and write the file that the microphone plays."""

    def install(text):
        (tmp_path / "sounddevice.py").write_text(text)
        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(microphone, "TIMEOUT", 0.5)
    soundfile.write("recorded.wav", band_noise("metal", 44100, 3.0), 44100)
    yield install
    sys.modules.pop("sounddevice", None)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--input", "usb"], ["--input", "7", "--json"]])
def test_predictions_for_the_microphone(trained, fake, capsys, flags):
    fake(FAKE)
    assert listen.main([str(trained / "run"), "--device", "cpu", *flags]) == 2
    captured = capsys.readouterr()
    assert "listening at 44100 Hz" in captured.err
    assert "the microphone sent nothing for 0.5 s" in captured.err
    last = captured.out.splitlines()[-1]
    assert json.loads(last)["predicted"] == "metal" if "--json" in flags else last.split()[2] == "metal"


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("raise ImportError('no')", [], 'pip install -e ".[live]"'),
        ("raise OSError('PortAudio library not found')", [], "libportaudio2"),
        (FAKE, ["--input", "nothing"], "--input nothing: expected a microphone"),
        (
            FAKE.replace("raise ValueError(", "raise PortAudioError("),
            ["--input", "3"],
            "--input 3: expected a microphone",
        ),
        (FAKE.replace("self.callback = callback", "raise PortAudioError('busy')"), [], "cannot be used (busy)"),
        (FAKE.replace("self.callback = callback", "self.callback, self.y[5] = callback, np.inf"), [], "NaN or infin"),
    ],
)
def test_no_microphone(trained, fake, capsys, module, flags, message):
    fake("import numpy as np\n" + module)
    assert listen.main([str(trained / "run"), "--device", "cpu", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_run_is_reported_before_a_missing_microphone(fake, tmp_path, capsys):
    fake("raise ImportError('no')")
    assert listen.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nothing'}") and "sounddevice" not in error


@pytest.mark.slow
def test_the_installed_sounddevice_has_no_such_microphone(trained):
    """Whatever this machine has, there is no traceback."""
    call = [sys.executable, "-m", "vision.listen", str(trained / "run"), "--input", "no such microphone"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
