"""Templates are found, escape what they are given, and make self-contained pages."""

import base64
import io
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

from tests.reports.pages import PageReader
from vision.reports import html

ROOT = Path(__file__).parents[2]
PAGES = ("run.html", "pooled.html", "tuning.html", "quality.html", "compare.html", "index.html")
SCORES = {"accuracy": 0.7, "interval": [0.4, 0.9], "n": 10, "macro_f1": 0.6, "top3": 1.0, "calibration_error": 0.1}
TEXTS = ("title", "subtitle", "headline", "note", "command", "settings", "versions", "part_name")
POOLED = {"title": "runs", "headline": "70 % right", "note": "", "command": "", "settings": "{}", "versions": "{}"}
POOLED |= {"subtitle": "", "part_name": "fold", "part_rows": [["fold 1", "10", "7", "0.700", "0.4 to 0.9"]]}
POOLED |= {"n_mistakes": 3, "mistake_rows": [["a.png", "blues", "jazz", "0.50"]], "commands": [("Go on:", "echo")]}
POOLED |= {"lines": ["accuracy 0.7"], "scores": SCORES, "genre_rows": [["blues", 10, "0.50", "0.60", "0.55", ""]]}


@pytest.fixture
def plot(tmp_path):
    """A PNG file."""
    path = tmp_path / "a_plot.png"
    Image.new("RGB", (4, 3), "red").save(path)
    return path


def test_a_page_holds_its_picture_and_what_it_is_given(tmp_path, plot):
    html.write_page(tmp_path / "page.html", "pooled.html", POOLED | {"confusion_plot": plot, "spread_plot": plot})
    page = PageReader((tmp_path / "page.html").read_text("utf-8"))
    assert page.is_self_contained and len(page.links) == 2
    assert base64.b64decode(page.links[0].partition(",")[2]) == plot.read_bytes()
    for text in ("runs", "70 % right", "accuracy 0.7", "70.0%", "95 %: 40.0% to 90.0%, n = 10", "blues 10 0.50"):
        assert text in page.text
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "a_plot.png"}


def test_everything_is_escaped(plot):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
    context = POOLED | dict.fromkeys(TEXTS, hostile) | {"confusion_plot": plot, "spread_plot": plot}
    context |= {"lines": [hostile], "genre_rows": [[hostile, 10, hostile]], "commands": [(hostile, hostile)]}
    context |= {"part_rows": [[hostile]], "mistake_rows": [[hostile]]}
    text = html.render_page("pooled.html", context)
    page = PageReader(text)
    assert page.is_self_contained and page.tags.count("img") == 2
    assert page.text.count("<script>alert(1)</script>") == len(TEXTS) + 1 + 3 + 4, "the title stands twice"
    assert "49" not in page.text, "a name is no template"


def test_macros_escape_cells_captions_and_alternative_texts():
    source = """{% import "macros.html" as m %}
    {{ m.table(["<a>"], [["<b>", 3]]) }} {{ m.tile("<c>", "1 < 2", "&") }}
    {{ m.figure([(picture, "\\"<d>")], "<e>") }}"""
    picture = Image.new("L", (2, 2))
    page = PageReader(html._environment().from_string(source).render(picture=picture))
    assert {"a", "b", "c", "d", "e"} & set(page.tags) == {"b"}, "the b of a tile's number"
    assert "1 < 2" in page.text and "<e>" in page.text
    assert page.links == [html.data_uri(picture)]


def test_names_that_are_no_text_are_kept(tmp_path, plot):
    html.write_page(
        tmp_path / "page.html",
        "pooled.html",
        POOLED | {"title": "a\udcff", "confusion_plot": plot, "spread_plot": plot},
    )
    assert b"<h1>a\xff</h1>" in (tmp_path / "page.html").read_bytes()


def test_a_missing_variable_is_an_error_and_leaves_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(jinja2.UndefinedError):
        html.write_page(path, "pooled.html", POOLED)
    assert path.read_text() == "old"


def test_a_picture_in_memory_is_embedded_as_jpeg():
    pixels = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    kind, _, data = html.data_uri(Image.fromarray(pixels)).partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert np.abs(np.asarray(image).astype(int) - pixels).max() < 8


@pytest.mark.parametrize("name", PAGES)
def test_every_page_extends_the_base(name):
    source, _, _ = html._environment().loader.get_source(html._environment(), name)
    assert '{% extends "base.html" %}' in source
    assert "http" not in source and "|safe" not in source.replace(" ", "")


def test_jinja2_is_imported_with_the_first_page_only():
    code = "import sys, vision.reports.html; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_templates_are_found_in_an_installed_copy(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(tmp_path / "site"), str(copy_of_the_source(tmp_path))], check=True)
    code = (
        "import vision.reports.html as html\n"
        f"assert html.__file__.startswith({str(tmp_path / 'site')!r}), html.__file__\n"
        f"for name in {PAGES}: html._environment().get_template(name)\n"
    )
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=env, check=True)


def copy_of_the_source(folder):
    """Copy what is needed to build a wheel, so that no build folder is left in the repository."""
    source = folder / "source"
    for name in ("render", "vision"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source
