"""The page escapes names, fetches nothing, and shows a limited number of pictures."""

from tests.conftest import write_picture
from tests.quality.recordings import recording, tree, write_probabilities
from tests.reports.pages import PageReader
from vision import check
from vision.quality import page as quality_page


def test_the_page_escapes_names_and_fetches_nothing(tmp_path):
    genre = "<script>alert(1)</script>".replace("/", "_")
    name = "<img src=x onerror=alert(1)>\n'\"&{}.png"
    images = tree(tmp_path / "images", genres=("jazz", "rock", genre))
    write_picture(images / genre / name, recording(1, 12.0))  # a jazz
    write_picture(images / "rock" / f"near {name}", (recording(2, 12.0) - 2).clip(-80, 0))
    (images / "rock" / f"bad {name}").write_bytes(b"")
    table = tmp_path / "predictions.csv"
    write_probabilities(table, images, {"jazz.00003.png": genre}, classes=("jazz", "rock", genre))
    page = tmp_path / "page.html"
    assert check.main([str(images), "--html", str(page), "--predictions", str(table)]) == 1
    text = page.read_text()
    reader = PageReader(text)
    assert reader.is_self_contained
    assert reader.tags.count("img") == len(reader.links)
    assert "url(" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_only_so_many_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality_page, "MOST", 2)
    images = tree(tmp_path / "images", n=12)
    for number in range(12):
        write_picture(images / "rock" / f"again {number}.png", (recording(number, 12.0) + 2).clip(-80, 0))
    assert check.main([str(images), "--html", str(tmp_path / "page.html")]) == 1
    assert "2 of 12 recordings" in (tmp_path / "page.html").read_text()
    assert "    and 2 more: --html or --json shows them" in capsys.readouterr().out


def test_a_recording_under_two_genres_comes_first_and_can_be_heard(tmp_path, capsys):
    images = tree(tmp_path / "images", genres=("jazz", "rock"))
    write_picture(images / "rock" / "again.png", (recording(1, 12.0) - 2).clip(-80, 0))  # a jazz
    for genre, name in (("jazz", "jazz.00001"), ("rock", "again")):
        (tmp_path / "songs" / genre).mkdir(parents=True)
        (tmp_path / "songs" / genre / f"{name}.wav").write_bytes(b"RIFF")
    page = tmp_path / "pages" / "page.html"
    flags = [str(images), "--html", str(page)]
    assert check.main([*flags, "--audio", str(tmp_path / "songs")]) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("attention", "note"))]
    assert "in more than one genre" in found[0] and any("in more than one genre" not in line for line in found)
    reader = PageReader(page.read_text("utf-8"))
    assert reader.tags.count("audio") == 2
    assert {link for link in reader.links if not link.startswith("data:")} == {
        "../songs/jazz/jazz.00001.wav", "../songs/rock/again.wav"
    }  # fmt: skip
    assert all((page.parent / link).resolve().is_file() for link in reader.links if not link.startswith("data:"))
    assert check.main([str(images), "--audio", str(tmp_path / "songs")]) == 2
    assert check.main([*flags, "--audio", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_long_lists_are_folded(tmp_path):
    images = tree(tmp_path / "images", n=3)
    for number in range(14):
        (images / "rock" / f"bad {number:02}.png").write_bytes(b"")
    page = tmp_path / "page.html"
    assert check.main([str(images), "--html", str(page)]) == 1
    text = page.read_text("utf-8")
    assert "<summary>4 more</summary>" in text and "bad 13.png" in text
    assert "of fewer than 20 tracks" in text and "rock (3)" in text
