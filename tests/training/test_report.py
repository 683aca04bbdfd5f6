"""The report page, calibration, and what a report is made of."""

import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tests.conftest import read_pictures, spectrogram_of, write_picture, write_tree
from vision import train
from vision.data.pixel_store import PixelStore
from vision.reports import html, metrics, plots
from vision.splits import leaks
from vision.training.calibration import LEAST, calibrate
from vision.training.config import command_of, config_of
from vision.training.report import confident_mistakes, lit


class Reader(HTMLParser):
    """Collects what a page shows and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


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
def test_calibration_finds_how_sure_to_be(factor):
    logits, y = drawn(4000, factor)
    model, x = Fixed(4), logits_store(logits)
    before = metrics.score(y.numpy(), logits.softmax(dim=1).numpy())
    temperature = calibrate(model, x, y)
    assert temperature == pytest.approx(1 / factor, rel=0.15)
    after = metrics.score(y.numpy(), (logits / temperature).softmax(dim=1).numpy())
    assert after["calibration_error"] < 0.03
    assert after["accuracy"] == before["accuracy"]
    assert calibrate(model, x, y) == pytest.approx(temperature), "it starts from 1 again"


def test_calibration_leaves_few_tracks_and_perfect_ones_alone():
    logits, y = drawn(LEAST - 1, 1.0)
    assert calibrate(Fixed(4), logits_store(logits), y) == 1
    logits, _ = drawn(200, 1.0)
    assert (
        calibrate(Fixed(4), logits_store(logits), logits_store(logits).pixels.view(200, 64)[:, :4].argmax(dim=1)) == 1
    )


def test_reliability_against_the_definition():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 500)
    y = rng.integers(0, 5, 500)
    found = metrics.reliability(y, p)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.minimum((confidence * 10).astype(int), 9)
    expected = sum(abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    assert found["error"] == pytest.approx(expected)
    assert sum(found["n"]) == 500
    assert metrics.reliability([0, 1], [[1, 0], [0, 1]])["error"] == 0
    assert metrics.reliability([1, 0], [[1, 0], [0, 1]])["error"] == 1


def test_the_surest_mistakes_come_first():
    y = np.array([0, 1, 0, 1])
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    assert confident_mistakes(y, p) == [2, 1]


def test_dark_where_it_did_not_look():
    x = torch.full((1, 4, 6), 200, dtype=torch.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[:, 3:] = 1
    plain, bright = (np.asarray(image).astype(int) for image in lit(x, heat))
    assert (bright[:, 3:] == plain[:, 3:]).all()
    assert (bright[:, :3] < plain[:, :3] * 0.3).all()
    colours = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    assert (np.asarray(lit(colours, heat * 0 + 1)[0]) == colours.permute(1, 2, 0).numpy()).all()


def test_leaks_are_seen_by_name_and_by_pixels(tmp_path):
    write_tree(tmp_path / "train", 3)
    write_tree(tmp_path / "dev", 2, start=10)
    clean = {split: read_pictures(tmp_path / split, size=32) for split in ("train", "dev")}
    assert leaks.compare(clean) == {"tracks": [], "equal_across": [], "equal_within": []}
    write_picture(tmp_path / "dev" / "blues" / "other.png", spectrogram_of("blues", 1))
    write_picture(tmp_path / "dev" / "jazz" / "jazz.00002_seg1.png", spectrogram_of("jazz", 77))
    write_picture(tmp_path / "train" / "metal" / "again.png", spectrogram_of("metal", 0))
    found = leaks.compare({split: read_pictures(tmp_path / split, size=32) for split in ("train", "dev")})
    assert found["tracks"] == ["jazz/jazz00002"]
    across = [[name.split("/")[-1] for name in pair] for pair in found["equal_across"]]
    assert across == [["blues.00001.png", "other.png"]]
    assert {name.split("/")[-1] for name in found["equal_within"][0]} == {"again.png", "metal.00000.png"}


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--recipe", "classic", "--seed", "3", "--epochs", "7"],
        ["--no-texture", "--class-weights", "--data", "my data", "--note", "it's; rm -rf $HOME"],
        ["--threads", "2", "--mixup", "0", "--input", "rgb", "--model", "resnet18"],
    ],
)
def test_the_command_in_the_report_makes_the_same_config(flags):
    config = config_of(train.get_parser().parse_args(["--data", "data", *flags]))
    words = shlex.split(command_of(config))
    assert words[:3] == ["python", "-m", "vision.train"]
    assert config_of(train.get_parser().parse_args(words[3:])) == config


def test_the_page_of_a_run(trained):
    text = (trained / "run" / "report.html").read_text()
    read = Reader(text)
    assert read.links and all(link.startswith("data:image/") for link in read.links), "self-contained"
    assert "script" not in read.tags and "@import" not in text
    shown = " ".join(" ".join(read.text).split())
    for told in (
        "How good is it?", "Where does it fail?", "How did it learn?", "On what?", "Calibration error",
        "Leak check: no track", "Not one mistake", "80/10/10 by chance", "python -m vision.train",
    ):  # fmt: skip
        assert told in shown
    scores = json.loads((trained / "run" / "metrics.json").read_text())
    assert f"{scores['test']['accuracy']:.1%} of {scores['test']['n']} test tracks right" in shown


def test_mistakes_are_shown_and_hostile_names_do_no_harm(tmp_path):
    names = {"<script>alert(1)</script>": 0, 'b & "c"': 3}
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("dev", 4)):
        for genre, band in names.items():
            for number in range(n):
                S_db = rng.normal(-60, 6, (128, 64))
                # In dev the genres have changed places: every track is a mistake.
                low = (band if split == "train" else 3 - band) * 32
                S_db[low : low + 16] = rng.normal(-10, 4, (16, 64))
                folder = tmp_path / "data" / split / genre.replace("/", "_")
                write_picture(folder / f"<b>{split}{number}.png", S_db.clip(-80, 0).astype(np.float32))
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--note", "<i>note</i>"]
    flags += ["--epochs", "6", "--size", "32", "--batch-size", "4", "--threads", "1", "--device", "cpu"]
    assert train.main(flags) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    read = Reader(text)
    assert not {"script", "i"} & set(read.tags)
    shown = " ".join(read.text)
    assert "<script>alert(1)<_script>" in shown and "<i>note</i>" in shown
    assert "Split by hand" in shown
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    wrong = round((1 - scores["dev"]["accuracy"]) * 8)
    assert wrong >= 4
    assert len(re.findall("where it looked", text)) == wrong


def test_tables_and_figures_escape():
    made = html.table(["<a>"], [["<b>", 3]]) + html.tiles([("<c>", "1 < 2", "&")]) + html.details("<d>", "<e>")
    assert {"a", "b", "c", "d", "e"} & set(Reader(made).tags) == {"b"}, "the b of a tile's figure"
    assert "1 < 2" in "".join(Reader(made).text)


def test_the_reliability_plot_is_drawn(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(1)
    found = metrics.reliability(rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40))
    plots.plot_reliability(tmp_path / "r.png", found)
    assert min(Image.open(tmp_path / "r.png").size) > 300
    # One bin with one track, right: its interval has no room above.
    plots.plot_reliability(tmp_path / "r.png", metrics.reliability([0], [[0.9, 0.1]]))
