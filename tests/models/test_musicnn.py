"""musicnn: its weights against its own TensorFlow graph, its input against librosa's, and how genres are told by it."""

import importlib.metadata
import os
import shutil
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import render.__main__ as render_command
from render.errors import MelvisionError
from render.settings import PRESETS, Settings
from vision.data.pixel_store import PixelStore, to_pixels
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.models import checkpoint, musicnn_expert
from vision.models.musicnn import INSTALL, WEIGHTS, Musicnn, read_weights
from vision.models.musicnn_expert import SHRINKAGE, SOFTNESS, MusicnnExpert, MusicnnNetwork, PictureToMel

DATA = Path(os.environ.get("MELVISION_DATA", Path(__file__).parents[3] / "shared" / "data"))
NEEDS_DATA = pytest.mark.skipif(not (DATA / "gtzan_audio").is_dir(), reason=f"no real audio in {DATA}")

#: The first of the 50 tags of its last layer.
TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock",
    "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow",
    "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient",
    "acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country",
)  # fmt: skip


@pytest.fixture(scope="module")
def net():
    """musicnn with its own weights."""
    network = Musicnn().eval()
    try:
        read_weights(network)
    except MelvisionError as error:
        pytest.skip(str(error))
    return network


def mel_of(y):
    """Its input by librosa, (1, T, 96)."""
    P = librosa.feature.melspectrogram(y=y, sr=16000, n_fft=512, hop_length=256, n_mels=96)
    return torch.from_numpy(np.log10(1 + 1e4 * P)).float().T[None]


def windows_of(picture, **how):
    """The windows of one picture as a model trained on such pictures takes them, and its input spec."""
    spec = learn_input_spec([str(picture)], channels=1, **how)
    store = PixelStore.of(Preprocessor(spec).from_file(picture).x[None])
    starts = store.starts(0)
    return to_pixels(store.cut([0] * len(starts), starts), torch.device("cpu")).contiguous(), starts, spec


def test_it_answers_as_its_own_tensorflow_graph_does(net):
    """make_musicnn_activations.py has run the package's graph."""
    known = np.load(Path(__file__).with_name("musicnn_activations.npz"))
    with torch.no_grad():
        embedding = net(torch.from_numpy(known["mel"].astype(np.float32)))
        tags = net.tag(embedding).sigmoid()
    np.testing.assert_allclose(embedding.numpy(), known["embedding"], atol=1e-4)
    np.testing.assert_allclose(tags.numpy(), known["tags"], atol=1e-4)
    assert np.ptp(known["embedding"], axis=0).max() > 1  # the two inputs are told apart


def test_in_training_batch_norm_stays_as_it_was(net):
    x = torch.rand(2, 40, 96)
    before = net(x)
    statistics = {name: value.clone() for name, value in net.state_dict().items() if "running" in name}
    assert torch.equal(net.train()(x), before)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in statistics.items())
    net.eval()


def installed_copy(monkeypatch, folder, change):
    """Have a changed copy of the package found in place of the installed one."""
    try:
        own = importlib.metadata.distribution("musicnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("musicnn is not installed")
    for name in (WEIGHTS, "musicnn-0.1.0.dist-info/METADATA"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(own.locate_file(name)), folder / name)
    data = bytearray((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).write_bytes(change(data))
    monkeypatch.syspath_prepend(str(folder))


def flip(data):
    data[5_000_000] ^= 1
    return data


@pytest.mark.parametrize("change", [flip, lambda data: data[:1000], lambda data: b""])
def test_a_damaged_file_gets_one_line(monkeypatch, tmp_path, change):
    installed_copy(monkeypatch, tmp_path, change)
    with pytest.raises(MelvisionError) as error:
        read_weights(Musicnn())
    assert "is damaged" in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_without_the_package_the_command_that_brings_it_is_named(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(MelvisionError, match=INSTALL.replace(".", r"\.")):
        read_weights(Musicnn())


@pytest.fixture(scope="module")
def preset_picture(tmp_path_factory):
    """A picture drawn with ``--preset musicnn``, and its samples."""
    root = tmp_path_factory.mktemp("preset")
    rng = np.random.default_rng(0)
    t = np.arange(9 * 16000) / 16000
    y = 0.3 * np.sin(2 * np.pi * 440 * t * (1 + 0.01 * np.sin(t))) * (np.sin(7 * t) > 0) + rng.normal(0, 0.02, len(t))
    (root / "genres" / "noise").mkdir(parents=True)
    path = root / "genres" / "noise" / "a.wav"
    soundfile.write(path, y, 16000, subtype="FLOAT")
    assert render_command.main([str(root / "genres"), "-o", str(root / "out"), "--preset", "musicnn", "-j", "1"]) == 0
    return root / "out" / "noise" / "a.png", y.astype(np.float32)


def test_a_picture_made_for_it_holds_all_that_it_takes_of_the_audio(net, preset_picture):
    """Three pixels a band, and one a frame: the input is librosa's to half a level, which is 90 dB / 255."""
    picture, y = preset_picture
    x, starts, spec = windows_of(picture, size=288, window=4.608)
    assert spec.absolute
    to_mel = PictureToMel(288, spec.seconds_per_pixel, spec.render)
    mel = mel_of(y)
    for window, start in zip(x, starts, strict=True):
        expected = mel[0, start : start + 288]
        error = (to_mel(window[None])[0] - expected).abs()
        assert error[expected > 1].max() <= 0.5 * 90 / 255 / 10 + 1e-3
    with torch.no_grad():
        ours, theirs = net(to_mel(x[:1])), net(mel[:, starts[0] : starts[0] + 288])
    assert torch.cosine_similarity(ours, theirs).item() > 0.999


def test_other_pictures_are_mapped_by_frequency_and_time():
    """A tone in one row of a picture of 128 bands up to 11 kHz arrives in the band of that frequency."""
    size, settings = 224, Settings()
    to_mel = PictureToMel(size, 7.5 / size)
    ours = librosa.mel_frequencies(130, fmin=0, fmax=11025)[1:-1]
    theirs = librosa.mel_frequencies(98, fmin=0, fmax=8000)[1:-1]
    for band in (10, 40, 90):
        x = torch.zeros(1, 1, size, size)
        row = size - 1 - round((band + 0.5) * size / settings.n_mels - 0.5)
        x[..., row - 1 : row + 2, size // 2 :] = 1
        mel = to_mel(x)[0]
        found = mel[mel.shape[0] // 2 + 20 :].mean(dim=0).argmax().item()
        assert abs(found - np.abs(theirs - ours[band]).argmin()) <= 1
        assert mel[mel.shape[0] // 2 + 20 :, found].mean() > mel[: mel.shape[0] // 2 - 20, found].mean() + 1
    x = torch.zeros(1, 1, size, size)
    x[..., : size // 12, :] = 1  # above 8 kHz
    assert to_mel(x).max() < 1


def test_pictures_of_features_are_refused():
    with pytest.raises(MelvisionError, match="kind features"):
        PictureToMel(64, 0.1, Settings(kind="features").to_dict())


def test_a_window_is_embedded_once(monkeypatch):
    expert = MusicnnExpert(3, size=32, seconds_per_pixel=0.03).eval()
    asked = []
    forward = expert.net.forward
    monkeypatch.setattr(expert.net, "forward", lambda mel: asked.append(len(mel)) or forward(mel))
    x = torch.rand(5, 1, 32, 32)
    with torch.inference_mode():
        first = expert.statistics(x)
        again = expert.statistics(x.flip(0)).flip(0)
        assert sum(asked) == 5 and torch.equal(first, again)
        torch.testing.assert_close(forward(expert.to_mel(x)), first, atol=1e-5, rtol=1e-5)
        expert.net.dense.weight.mul_(1.1)  # another network
        assert not torch.equal(expert.statistics(x), first) and sum(asked) == 10


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2]])
def test_the_discriminant_is_scikit_learns(present):
    rng = np.random.default_rng(1)
    y = rng.choice(present, 60)
    x = rng.normal(0, 1, (60, 200)) + rng.normal(0, 1, (3, 200))[y]
    expert = MusicnnExpert(3, size=32, seconds_per_pixel=0.1)
    expert.fit(torch.from_numpy(x).float(), torch.from_numpy(y))
    logits = expert.classify(torch.from_numpy(x).float()).double() * SOFTNESS
    p = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(logits.softmax(dim=1)[:, present].numpy(), p, atol=1e-4)


def test_class_weights_count():
    rng = np.random.default_rng(1)
    y = np.array([0] * 50 + [1] * 5)
    x = torch.from_numpy(rng.normal(0, 1, (55, 200))).float()
    usual, weighted = (MusicnnExpert(2, size=32, seconds_per_pixel=0.1) for _ in range(2))
    usual.fit(x, torch.from_numpy(y))
    weighted.fit(x, torch.from_numpy(y), torch.tensor([0.55, 5.5]))
    odds = [expert.classify(x).diff(dim=1).mean() * SOFTNESS for expert in (usual, weighted)]
    assert (odds[1] - odds[0]).item() == pytest.approx(np.log(10), rel=1e-3)


def test_the_network_learns_through_the_picture():
    torch.manual_seed(0)
    network = MusicnnNetwork(3, size=32, dropout=0.0, seconds_per_pixel=0.03).train()
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    learned = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(network.get_parameter(name).grad is not None for name in learned)
    assert not any("tag" in name for name in learned) and "features.convs.0.weight" in learned


@pytest.mark.slow
def test_a_run_with_it_predicts_exports_and_explains_as_any_other(net, trained, tmp_path, monkeypatch, capsys):
    from vision import evaluate, explain, export, predict, train

    flags = ["--size", "32", "--window", "1", "--threads", "1", "--device", "cpu", "--epochs", "2", "--recipe", "quick"]
    run, data = tmp_path / "run", trained / "data"
    experts = ["--experts", "network,texture,musicnn"]
    assert train.main(["--data", str(data), "--out", str(run), *flags, *experts]) == 0
    assert "musicnn is a network that others trained" in (run / "report.html").read_text("utf-8")
    rows = (run / "history.csv").read_text().splitlines()
    assert "musicnn_dev_accuracy" in rows[0]
    out = capsys.readouterr().out
    assert "musicnn alone (weight 0.333)" in out or "musicnn alone (weight 0.33)" in out
    # The weights are in the run: nothing needs the package any more.
    monkeypatch.setattr("vision.models.classifier.read_weights", None)
    picture = next((data / "dev").rglob("*.png"))
    assert predict.main([str(run), str(picture), "--csv", str(tmp_path / "a.csv")]) == 0
    assert evaluate.main([str(run), "--split", "dev"]) == 0
    assert export.main([str(run), "-o", str(tmp_path / "model.onnx")]) == 0
    assert predict.main([str(tmp_path / "model.onnx"), str(picture), "--csv", str(tmp_path / "b.csv")]) == 0
    a, b = ((tmp_path / name).read_text().splitlines()[1].split(",") for name in ("a.csv", "b.csv"))
    assert a[1] == b[1] and abs(float(a[2]) - float(b[2])) < 2e-3
    assert explain.main([str(run), str(picture), "-o", str(tmp_path / "explained")]) == 0


@pytest.mark.slow
def test_fitted_experts_alone_need_no_epochs_and_fine_tuning_resumes(net, trained, tmp_path):
    from vision import train

    flags = ["--size", "32", "--window", "1", "--threads", "1", "--device", "cpu", "--recipe", "quick"]
    data = ["--data", str(trained / "data")]
    assert train.main([*data, "--out", str(tmp_path / "fitted"), *flags, "--experts", "texture:0.6,musicnn:0.4"]) == 0
    page = (tmp_path / "fitted" / "report.html").read_text("utf-8")
    assert "Nothing was trained by epochs" in page and "vgg_small is the network" not in page
    model, spec = checkpoint.load_model(tmp_path / "fitted")
    assert (
        model.net is None and model.network_name is None and spec.model["experts"] == {"texture": 0.6, "musicnn": 0.4}
    )
    tuned = ["--model", "musicnn", "--experts", "network", "--epochs", "2", "--lr", "0.001", "--head-epochs", "1"]
    assert train.main([*data, "--out", str(tmp_path / "tuned"), *flags, *tuned]) == 0
    model, spec = checkpoint.load_model(tmp_path / "tuned")
    assert isinstance(model.net, MusicnnNetwork) and model.musicnn is None
    assert model.normalize.mean.item() == 0 and model.normalize.std.item() == 1


@NEEDS_DATA
@pytest.mark.slow
def test_on_real_audio_its_tags_are_right(net):
    """Of the five tracks of a genre, the genre's own tag is among the three likeliest on average."""
    for genre, tag in (("metal", "metal"), ("hiphop", "Hip-Hop"), ("country", "country"), ("jazz", "jazz")):
        found = []
        for path in sorted((DATA / "gtzan_audio" / genre).glob("*.wav")):
            y = librosa.load(path, sr=16000, duration=12)[0]
            with torch.no_grad():
                found.append(net.tag(net(mel_of(y))).sigmoid()[0])
        likeliest = torch.stack(found).mean(dim=0).topk(3).indices.tolist()
        assert TAGS.index(tag) in likeliest, (genre, [TAGS[i] if i < len(TAGS) else i for i in likeliest])


def test_the_memory_of_embeddings_is_bounded(monkeypatch):
    monkeypatch.setattr(musicnn_expert, "REMEMBERED", 3)
    expert = MusicnnExpert(3, size=32, seconds_per_pixel=0.01).eval()
    with torch.inference_mode():
        for _ in range(4):
            expert.statistics(torch.rand(2, 1, 32, 32))
    assert len(musicnn_expert._memory) <= 3 + 2


def test_the_preset_is_what_musicnn_takes():
    assert PRESETS["musicnn"] | {"sr": 16000, "n_fft": 512, "hop_length": 256, "n_mels": 96} == PRESETS["musicnn"]
