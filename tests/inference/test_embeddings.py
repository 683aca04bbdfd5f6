"""Embeddings: against the layers they come from, as tables, and the nearest tracks."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import spectrogram_of, write_picture
from vision import embed as embed_command
from vision import predict
from vision.data.pixel_store import PixelStore, to_pixels
from vision.inference.embeddings import TRAIN_EMBEDDINGS, SimilarTracks, embed, nearest
from vision.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "run", "cpu")


@pytest.fixture(scope="module")
def pictures(trained):
    return sorted((trained / "images").rglob("*.png"))


def test_the_networks_is_what_its_last_layer_takes(predictor, pictures):
    """The last layer, on the embedding, gives the network's own logits."""
    model = predictor.models[0]
    found = embed(predictor, pictures[:3], "network")
    for one, path in zip(found, pictures, strict=False):
        store = PixelStore.of(predictor.read(path).x[None])
        starts = store.starts(0)
        x = to_pixels(store.cut([0] * len(starts), starts), torch.device("cpu"))
        with torch.no_grad():
            logits = model.net.classifier(torch.from_numpy(one.embedding)[None])
            expected = model.net(model.normalize(x)).mean(dim=0, keepdim=True)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_predictions_are_those_without_embeddings(predictor, pictures):
    plain = predictor.predict(pictures)
    for expert in ("network", "texture", None):
        found = embed(predictor, pictures, expert)
        assert [str(one.path) for one in found] == [str(one.path) for one in plain]
        assert all(np.allclose(one.p, other.p, atol=1e-6) for one, other in zip(found, plain, strict=True))


def test_a_genre_lies_together(predictor, pictures):
    found = embed(predictor, pictures)
    values = np.stack([one.embedding for one in found])
    genres = np.array([path.parent.name for path in pictures])
    numbers, similarity = nearest(values, values, 2)
    assert (numbers[:, 0] == np.arange(len(values))).all() and np.allclose(similarity[:, 0], 1, atol=1e-5)
    assert (genres[numbers[:, 1]] == genres).mean() > 0.9


def test_the_nearest_are_those_of_highest_cosine():
    rng = np.random.default_rng(0)
    values, others = rng.normal(2, 3, (4, 7)), rng.normal(2, 3, (20, 7))
    numbers, similarity = nearest(values, others, 30)
    mean, std = others.mean(axis=0), others.std(axis=0)
    for number, (row, cosines) in enumerate(zip(numbers, similarity, strict=True)):
        a, b = (values[number] - mean) / std, (others[row] - mean) / std
        expected = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(cosines, expected, atol=1e-5)
        assert len(row) == 20 and (np.diff(cosines) <= 0).all()


def test_tables_hold_the_same_in_every_format(trained, pictures, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    files = [*map(str, pictures[:4]), str(broken)]
    for name in ("a.npz", "a.csv"):
        assert embed_command.main([str(trained / "run"), *files, "-o", str(tmp_path / name), "--of", "network"]) == 1
        captured = capsys.readouterr()
        assert f"failed: {broken}" in captured.err and "4 of 5 files" in captured.out
    arrays = np.load(tmp_path / "a.npz", allow_pickle=False)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert arrays["files"].tolist() == [row["file"] for row in rows] == files[:4]
    assert arrays["genres"].tolist() == [row["genre"] for row in rows]
    values = np.array([[float(row[f"e{number}"]) for number in range(arrays["embeddings"].shape[1])] for row in rows])
    np.testing.assert_allclose(values, arrays["embeddings"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(arrays["probabilities"].sum(axis=1), 1, atol=1e-5)
    pytest.importorskip("pyarrow")
    import pandas as pd

    embed_command.main([str(trained / "run"), *files[:4], "-o", str(tmp_path / "a.parquet"), "--of", "network"])
    assert pd.read_parquet(tmp_path / "a.parquet")["file"].tolist() == files[:4]


@pytest.mark.parametrize(
    ("wrong", "expected"), [(["-o", "a.txt"], ".npz, .csv or .parquet"), (["-o", "a.npz", "--of", "ear"], "texture")]
)
def test_what_cannot_be_done_is_said_in_a_line(trained, tmp_path, monkeypatch, capsys, wrong, expected):
    monkeypatch.chdir(tmp_path)
    assert embed_command.main([str(trained / "run"), str(trained / "images"), *wrong]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and expected in error[0] and list(tmp_path.iterdir()) == []


def test_similar_tracks_are_named_and_kept(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    song = write_picture(tmp_path / "new.png", spectrogram_of("metal", 99, 64))
    assert predict.main([str(run), str(song), "--similar", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2][1].split("/")[0] for line in lines[1:]] == ["metal"] * 3
    written = (run / TRAIN_EMBEDDINGS).stat().st_mtime_ns
    train = next((trained / "data" / "train" / "jazz").iterdir())
    assert predict.main([str(run), str(train), "--similar", "2", "--json"]) == 0
    similar = json.loads(capsys.readouterr().out)[0]["similar"]
    assert len(similar) == 2 and all(one["file"] != str(train) for one in similar)
    assert (run / TRAIN_EMBEDDINGS).stat().st_mtime_ns == written
    # Damaged, or of another model: made anew.
    (run / TRAIN_EMBEDDINGS).write_bytes(b"PK nothing")
    assert predict.main([str(run), str(song), "--similar", "1"]) == 0
    assert np.load(run / TRAIN_EMBEDDINGS)["values"].shape[0] == 30


def test_pictures_that_are_gone_are_said(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    rows = (run / "split.csv").read_text().replace(str(trained), str(tmp_path / "elsewhere"))
    (run / "split.csv").write_text(rows)
    with pytest.raises(ValueError, match="none of the 30 pictures"):
        SimilarTracks(Predictor(run, "cpu"), run, 3)
    (run / "split.csv").unlink()
    with pytest.raises(ValueError, match="does not say"):
        SimilarTracks(Predictor(run, "cpu"), run, 3)
