"""Planted faults of a folder are found, and nothing else."""

import numpy as np
import pytest
from PIL import Image

from render.settings import Settings
from tests.conftest import write_picture
from tests.quality.recordings import foreign, levels_of, recording, tree, write_faults
from vision.quality.inspect import inspect_folder


def kinds(report, attention=None):
    return [finding.kind for finding in report.findings if attention is None or finding.attention == attention]


def pairs_of(report):
    return {
        tuple(sorted((report.pictures[pair.first].file, report.pictures[pair.second].file))) for pair in report.near
    }


def test_planted_faults_are_found(tmp_path):
    report = inspect_folder(write_faults(tmp_path / "images"), track_seconds=12.0)
    findings = {finding.kind: finding for finding in report.findings}
    assert [[report.pictures[index].file for index in indices] for indices in report.equal] == [
        ["blues/blues.00000.png", "rock/blues again.png"]
    ]
    assert pairs_of(report) == {("blues/other.png", "jazz/jazz.00001.png"), ("jazz/jazz.00002.png", "jazz/other.png")}
    late = next(pair for pair in report.near if report.pictures[pair.first].file == "blues/other.png")
    assert late.offset == pytest.approx(-1.2, abs=0.3)
    assert sorted(findings["unusable"].files) == ["jazz/broken.png", "jazz/words.jpg"]
    assert findings["blank"].files == ["rock/black.png"]
    assert findings["silent"].files == ["rock/late.png"]
    assert findings["short"].files == ["rock/brief.png"]
    assert findings["stray"].files == ["stray.png"]
    assert findings["empty"].files == ["empty"]
    assert findings["unbalanced"].files == ["many (20)"]
    assert set(findings["odd"].files) == {"blues/other.png", "jazz/other.png", "rock/black.png"}
    assert set(findings["two labels"].files) == {
        "blues/blues.00000.png", "rock/blues again.png", "blues/other.png", "jazz/jazz.00001.png"
    }  # fmt: skip
    margins = {info.file: info.margin for info in report.pictures}
    assert margins["jazz/other.png"] == (54, 35, 42, 35)
    assert {info.drawn for info in report.pictures if info.file in ("blues/other.png", "jazz/other.png")} == {
        "432x288 RGB PNG, viridis", "432x288 RGB PNG, inferno"
    }  # fmt: skip


def test_a_genre_that_is_drawn_in_another_way_is_reported(tmp_path):
    images = tree(tmp_path / "images")
    for number in range(4):
        foreign(images / "metal" / f"{number}.png", recording(900 + number, 12.0))
    messages = [
        finding.message
        for finding in inspect_folder(images, track_seconds=12.0).findings
        if finding.kind == "confounded"
    ]
    assert len(messages) == 1
    assert messages[0].startswith("metal: 100% drawn as 432x288 RGB PNG, viridis, of the other genres 0%")


def test_a_mixture_that_does_not_depend_on_the_genre_is_only_a_note(tmp_path):
    images = tree(tmp_path / "images", n=4)
    for label, genre in enumerate(("blues", "jazz", "rock")):
        for number in range(4, 8):
            foreign(images / genre / f"{number}.png", recording(100 * label + number, 12.0), size=(500, 200))
    report = inspect_folder(images, track_seconds=12.0)
    assert kinds(report, attention=True) == []
    assert kinds(report) == ["small", "mixed"]


def test_other_settings_are_another_drawing_style(tmp_path):
    images = tree(tmp_path / "images", n=12)
    write_picture(images / "rock" / "low.png", recording(70, 12.0), Settings(fmax=8000.0, duration=12.0))
    findings = {finding.kind: finding for finding in inspect_folder(images).findings}
    assert findings["odd"].files == ["rock/low.png"]
    assert any(info.drawn.endswith("magma, fmax 8000.0") for info in inspect_folder(images).pictures)


def test_pieces_and_copies_of_one_track_are_no_finding(tmp_path):
    images = tree(tmp_path / "images")
    S_db = recording(3, 12.0)
    write_picture(images / "blues" / "blues.00003+aug1.png", (S_db + 3).clip(-80, 0))
    write_picture(images / "blues" / "blues.00003.2.png", (S_db - 5).clip(-80, 0))
    assert kinds(inspect_folder(images)) == ["small"]


def test_sixteen_bits_and_unknown_colours(tmp_path):
    images = tree(tmp_path / "images", seconds=30.0)
    levels = levels_of(recording(0, 30.0)).astype(np.uint16)
    Image.fromarray(levels * 257).save(images / "rock" / "deep.png")
    levels = levels_of(recording(1, 30.0))
    Image.fromarray(np.stack([levels // 3, levels, levels // 2], axis=-1)).save(images / "rock" / "green.png")
    report = inspect_folder(images)
    drawn = {info.file: info.drawn for info in report.pictures}
    assert drawn["rock/deep.png"] == f"{levels.shape[1]}x128 16-bit grey, gray"
    assert drawn["rock/green.png"] == f"{levels.shape[1]}x128 RGB PNG, colours of no known colormap"
    # Both are recognised all the same.
    assert ("blues/blues.00000.png", "rock/deep.png") in pairs_of(report)
    assert ("blues/blues.00001.png", "rock/green.png") in pairs_of(report)
