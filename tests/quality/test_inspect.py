"""vision.check finds what was planted, nothing else, and tells it in every form."""

import csv
import html.parser
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render import png
from render.errors import MelvisionError
from render.settings import Settings
from tests.conftest import DATA, needs_data, write_picture, write_tree
from vision import check, split
from vision.data.preprocess import Preprocessor
from vision.quality import page as quality_page
from vision.quality.inspect import doubt_labels, inspect_folder
from vision.quality.label_issues import file_key, find_label_issues, read_predictions
from vision.quality.near_duplicates import FRAME, find_similar, fingerprint
from vision.quality.picture_info import picture_info
from vision.splits.folder import read_rows
from vision.splits.groups import look_up, merge_groups, read_groups

RATE = 22050 / 512  # frames a second of our pictures


def recording(seed, seconds=30.0):
    """Decibels of something that sounds like nothing else, (128, n_frames)."""
    rng = np.random.default_rng(seed)
    n_frames = round(seconds * RATE)
    notes = rng.normal(0, 12, (32, n_frames // 8 + 1))
    S_db = notes.repeat(4, axis=0).repeat(8, axis=1)[:, :n_frames] - np.linspace(15, 45, 128)[:, None]
    return (S_db + rng.normal(0, 3, S_db.shape)).clip(-80, 0).astype(np.float32)


def levels_of(S_db):
    """Levels as a picture has them, row 0 the highest band."""
    return png.quantise(S_db[::-1], vmin=-80.0, vmax=0.0)


def excerpt(S_db, start, seconds=12.0):
    """Part of a recording."""
    first = round(start * RATE)
    return S_db[:, first : first + round(seconds * RATE)]


def foreign(path, S_db, cmap="viridis", size=(336, 218), margin=(54, 35, 42, 35), noise=0.0):
    """Draw it as another program would: its own range, colours, size, white margin, a little noise."""
    levels = levels_of(S_db).astype(np.float32)
    levels += np.random.default_rng(0).normal(0, noise, levels.shape) if noise else 0
    levels = (levels - levels.min()) / np.ptp(levels) * 255
    inside = Image.fromarray(levels.round().astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    colours = png.palette(cmap)[np.asarray(inside)]
    left, top, right, bottom = margin
    paper = Image.new("RGB", (left + size[0] + right, top + size[1] + bottom), "white")
    paper.paste(Image.fromarray(colours), (left, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    paper.save(path)
    return path


def tree(root, n=4, genres=("blues", "jazz", "rock"), seconds=12.0):
    """Every track another recording."""
    for label, genre in enumerate(genres):
        for number in range(n):
            write_picture(root / genre / f"{genre}.{number:05}.png", recording(100 * label + number, seconds))
    return root


def kinds(health, attention=None):
    return [found.kind for found in health.findings if attention is None or found.attention == attention]


def pairs_of(health):
    return {tuple(sorted((health.looks[pair.first].file, health.looks[pair.second].file))) for pair in health.near}


def test_nothing_is_wrong_with_a_good_folder(tmp_path, capsys):
    images = tree(tmp_path / "images")
    assert check.main([str(images)]) == 0
    out = capsys.readouterr().out
    assert "12 pictures, nothing to look at" in out
    assert "melvision mel, 128 bands, 22050 Hz, hop 512, magma" in out
    assert "attention" not in out


def test_unique_recordings_give_no_pair():
    assert find_similar([fingerprint(levels_of(recording(seed)), 30.0) for seed in range(60)]) == []


def test_noise_and_stillness_give_no_pair():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (128, 300)).astype(np.uint8) for _ in range(40)]
    pictures += [np.zeros((128, 300), np.uint8), np.full((128, 300), 200, np.uint8)] * 2
    # Equal in every frame: nothing happens in them that could be compared.
    pictures += [np.arange(128, dtype=np.uint8)[:, None].repeat(300, axis=1)] * 2
    assert find_similar([fingerprint(levels, 30.0) for levels in pictures]) == []


@settings(max_examples=25)
@given(st.integers(0, 60), st.floats(0, 17), st.floats(12, 30), st.floats(0, 20), st.floats(0.5, 1.6))
def test_one_recording_is_found_at_any_offset(seed, start, seconds, noise, gamma):
    """Cut out anywhere with 10 s left, noisy, with other contrast and of another size."""
    whole = levels_of(recording(seed))
    first = round(start * RATE)
    part = whole[:, first : first + round(seconds * RATE)].astype(np.float32)
    seconds, start = part.shape[1] / RATE, first / RATE
    part = part + np.random.default_rng(seed).normal(0, noise, part.shape)
    part = (255 * (part.clip(0, 255) / 255) ** gamma).astype(np.uint8)
    part = np.asarray(Image.fromarray(part).resize((round(part.shape[1] * 0.4), 90), Image.Resampling.BILINEAR))
    (pair,) = find_similar([fingerprint(whole, whole.shape[1] / RATE), fingerprint(part, seconds)])
    assert pair.offset == pytest.approx(start, abs=0.25)
    assert pair.overlap == pytest.approx(min(seconds, 30 - start), abs=1.5)


def test_two_excerpts_with_half_a_minute_between_have_nothing_in_common():
    song = levels_of(recording(1, 90))
    a, b = song[:, : round(30 * RATE)], song[:, round(60 * RATE) :]
    assert find_similar([fingerprint(a, 30.0), fingerprint(b, 30.0)]) == []


def test_tracks_over_one_loop_are_two_recordings():
    """The same two bars over and over, and another voice on top."""
    loop = np.tile(recording(7, 2.0), 15)
    frames = loop.shape[1]
    tracks = [np.maximum(loop, recording(seed, 40)[:, :frames] + 2) for seed in range(20, 26)]
    seconds = frames / RATE
    prints = [fingerprint(levels_of(track), seconds) for track in tracks]
    assert find_similar(prints) == []
    # The very same track with its loop, drawn again, is still found.
    again = fingerprint(levels_of((tracks[0] + 3).clip(-80, 0)), seconds)
    assert [(pair.first, pair.second, pair.offset) for pair in find_similar([*prints, again])] == [(0, 6, 0.0)]


@given(st.lists(st.sampled_from([5.0, 12.0, 12.4, 31.0]), min_size=2, max_size=6), st.integers(0, 99))
@settings(max_examples=20)
def test_pairs_do_not_depend_on_lengths_met_together(lengths, seed):
    """What is found of two tracks is the same whatever else lies beside them."""
    song = levels_of(recording(seed, 40))
    prints = [fingerprint(song[:, : round(seconds * RATE)], seconds) for seconds in lengths]
    strangers = [fingerprint(levels_of(recording(1000 + seed + n, 20 + n)), 20.0 + n) for n in range(3)]
    alone = {
        (a, b) for a in range(len(prints)) for b in range(a + 1, len(prints)) if find_similar([prints[a], prints[b]])
    }
    assert {(pair.first, pair.second) for pair in find_similar([*prints, *strangers])} == alone
    assert alone == {(a, b) for a in range(len(prints)) for b in range(a + 1, len(prints))}


def test_very_short_tracks_are_compared_by_their_pixels_only(tmp_path):
    images = write_tree(tmp_path / "images", 4)  # of 1.5 s
    write_picture(images / "jazz" / "again.png", np.roll(recording(1, 1.5), 1, axis=0))
    assert inspect_folder(images).near == []
    assert fingerprint(np.zeros((128, 5), np.uint8), 0.1).shape[1] == 1


@pytest.fixture
def planted(tmp_path):
    """A folder with one of every fault."""
    images = tree(tmp_path / "images", n=6)
    write_picture(images / "rock" / "blues again.png", recording(0, 12.0))  # blues.00000
    # jazz.00001, begun 1.2 s later, drawn by another program; jazz.00002 in its own genre
    song = recording(101, 15.0)
    write_picture(images / "jazz" / "jazz.00001.png", excerpt(song, 0))
    foreign(images / "blues" / "other.png", excerpt(song, 1.2), noise=4.0)
    foreign(images / "jazz" / "other.png", recording(102, 12.0), cmap="inferno")
    (images / "jazz" / "broken.png").write_bytes((images / "jazz" / "jazz.00003.png").read_bytes()[:3000])
    (images / "jazz" / "words.jpg").write_text("no picture")
    (images / "empty").mkdir()
    Image.new("RGB", (200, 100), "black").save(images / "rock" / "black.png")
    half = recording(500, 12.0)
    half[:, : half.shape[1] * 2 // 3] = -80
    write_picture(images / "rock" / "late.png", half)
    write_picture(images / "rock" / "brief.png", recording(501, 4.0))
    Image.new("L", (300, 100)).save(images / "stray.png")
    for number in range(20):
        write_picture(images / "many" / f"{number}.png", recording(600 + number, 12.0))
    return images


def test_planted_faults_are_found(planted):
    health = inspect_folder(planted, track_seconds=12.0)
    found = {finding.kind: finding for finding in health.findings}
    assert [[health.looks[number].file for number in numbers] for numbers in health.equal] == [
        ["blues/blues.00000.png", "rock/blues again.png"]
    ]
    assert pairs_of(health) == {("blues/other.png", "jazz/jazz.00001.png"), ("jazz/jazz.00002.png", "jazz/other.png")}
    late = next(pair for pair in health.near if health.looks[pair.first].file == "blues/other.png")
    assert late.offset == pytest.approx(-1.2, abs=0.3)
    assert sorted(found["unusable"].files) == ["jazz/broken.png", "jazz/words.jpg"]
    assert found["blank"].files == ["rock/black.png"]
    assert found["silent"].files == ["rock/late.png"]
    assert found["short"].files == ["rock/brief.png"]
    assert found["stray"].files == ["stray.png"]
    assert found["empty"].files == ["empty"]
    assert found["unbalanced"].files == ["many (20)"]
    assert set(found["odd"].files) == {"blues/other.png", "jazz/other.png", "rock/black.png"}
    assert set(found["two labels"].files) == {
        "blues/blues.00000.png", "rock/blues again.png", "blues/other.png", "jazz/jazz.00001.png"
    }  # fmt: skip
    margins = {look.file: look.margin for look in health.looks}
    assert margins["jazz/other.png"] == (54, 35, 42, 35)
    assert {look.drawn for look in health.looks if look.file in ("blues/other.png", "jazz/other.png")} == {
        "432x288 RGB PNG, viridis", "432x288 RGB PNG, inferno"
    }  # fmt: skip


def test_the_command_tells_them_all(planted, tmp_path, capsys):
    page, groups = tmp_path / "page.html", tmp_path / "near.csv"
    flags = ["--track-seconds", "12", "--html", str(page), "--groups", str(groups)]
    assert check.main([str(planted), *flags]) == 1
    out = capsys.readouterr().out
    assert "blues/blues.00000.png = rock/blues again.png" in out
    assert "jazz/broken.png: is damaged" in out
    assert check.main([str(planted), "--json", *flags]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["attention"] is True
    assert told["equal"] == [["blues/blues.00000.png", "rock/blues again.png"]]
    assert sum(pair["across"] for pair in told["near"]) == 1
    assert told["genres"]["empty"] == 0
    assert len(told["pictures"]) == sum(told["genres"].values())
    assert page.read_text().count("data:image/jpeg;base64,") >= 10


def test_one_genre_drawn_otherwise_is_told(tmp_path):
    images = tree(tmp_path / "images")
    for number in range(4):
        foreign(images / "metal" / f"{number}.png", recording(900 + number, 12.0))
    told = [
        finding.told for finding in inspect_folder(images, track_seconds=12.0).findings if finding.kind == "confounded"
    ]
    assert len(told) == 1
    assert told[0].startswith("metal: 100% drawn as 432x288 RGB PNG, viridis, of the other genres 0%")


def test_a_mixture_that_says_nothing_of_the_genre_is_only_noted(tmp_path):
    images = tree(tmp_path / "images", n=4)
    for label, genre in enumerate(("blues", "jazz", "rock")):
        for number in range(4, 8):
            foreign(images / genre / f"{number}.png", recording(100 * label + number, 12.0), size=(500, 200))
    health = inspect_folder(images, track_seconds=12.0)
    assert kinds(health, attention=True) == []
    assert kinds(health) == ["mixed"]


def test_other_settings_of_ours_are_another_drawing(tmp_path):
    images = tree(tmp_path / "images", n=12)
    write_picture(images / "rock" / "low.png", recording(70, 12.0), Settings(fmax=8000.0, duration=12.0))
    found = {finding.kind: finding for finding in inspect_folder(images).findings}
    assert found["odd"].files == ["rock/low.png"]
    assert any(look.drawn.endswith("magma, fmax 8000.0") for look in inspect_folder(images).looks)


def test_pieces_and_copies_of_one_track_are_no_news(tmp_path):
    images = tree(tmp_path / "images")
    S_db = recording(3, 12.0)
    write_picture(images / "blues" / "blues.00003+aug1.png", (S_db + 3).clip(-80, 0))
    write_picture(images / "blues" / "blues.00003.2.png", (S_db - 5).clip(-80, 0))
    assert inspect_folder(images).findings == []


def test_sixteen_bits_and_unknown_colours(tmp_path):
    images = tree(tmp_path / "images", seconds=30.0)
    levels = levels_of(recording(0, 30.0)).astype(np.uint16)
    Image.fromarray(levels * 257).save(images / "rock" / "deep.png")
    levels = levels_of(recording(1, 30.0))
    Image.fromarray(np.stack([levels // 3, levels, levels // 2], axis=-1)).save(images / "rock" / "green.png")
    health = inspect_folder(images)
    drawn = {look.file: look.drawn for look in health.looks}
    assert drawn["rock/deep.png"] == f"{levels.shape[1]}x128 16-bit grey, gray"
    assert drawn["rock/green.png"] == f"{levels.shape[1]}x128 RGB PNG, colours of no known colormap"
    # Both are recognised all the same.
    assert ("blues/blues.00000.png", "rock/deep.png") in pairs_of(health)
    assert ("blues/blues.00001.png", "rock/green.png") in pairs_of(health)


def test_a_near_pair_never_straddles(tmp_path, capsys):
    images = tree(tmp_path / "images", n=10)
    for number in range(10):
        song = recording(number, 15.0)
        write_picture(images / "blues" / f"blues.{number:05}.png", excerpt(song, 0))
        foreign(images / "rock" / f"again {number}.png", excerpt(song, 1.5), noise=3.0)
    (tmp_path / "artists.csv").write_text("blues.00000,A\njazz/jazz.00000.png,A\njazz.00001,B\njazz.00002,B\n")
    near = tmp_path / "near.csv"
    assert check.main([str(images), "--track-seconds", "12", "--groups", str(near)]) == 1
    for seed in range(3):
        data = tmp_path / f"data{seed}"
        flags = ["--groups", str(tmp_path / "artists.csv"), "--groups", str(near), "--seed", str(seed)]
        assert split.main([str(images), "-o", str(data), *flags]) == 0
        side = {row.file: row.split for row in read_rows(data)}
        for number in range(10):
            assert side[f"blues/blues.{number:05}.png"] == side[f"rock/again {number}.png"]
        assert side["blues/blues.00000.png"] == side["jazz/jazz.00000.png"]
        assert side["jazz/jazz.00001.png"] == side["jazz/jazz.00002.png"]
        assert split.main([str(data), "--check", *flags[:4]]) == 0
    assert "in the groups file have no picture" not in capsys.readouterr().err


def test_merged_groups_tie_what_either_file_ties(tmp_path):
    artists = {"rock00001": "queen", "metal00001": "dio", "pop/x": "queen"}
    near = {"rock/rock00001": "recording of a", "metal/metal00009": "recording of a", "blues/b": "recording of b"}
    groups = merge_groups([artists, near])
    tied = {look_up(groups, "rock", "rock00001"), look_up(groups, "metal", "metal00009"), look_up(groups, "pop", "x")}
    assert len(tied) == 1
    assert look_up(groups, "metal", "metal00001") == "dio"
    assert look_up(groups, "blues", "b") == "recording of b"
    assert merge_groups([artists]) == artists
    assert merge_groups([{"a": "1"}, {"b": "1"}]) == {"a": "1", "b": "1"}


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("1234"), min_size=1), min_size=1))
def test_merging_keeps_every_tie(tables):
    groups = merge_groups(tables)
    assert set(groups) == {key for table in tables for key in table}
    for table in tables:
        for a in table:
            for b in table:
                assert table[a] != table[b] or groups[a] == groups[b]


def test_groups_of_hostile_names_can_be_read(tmp_path):
    images = tree(tmp_path / "images")
    names = ['a,"b".png', "line\nbreak.png", "back\\slash.png", "caf\udce9.png", "  spaces .png", "=cmd.png"]
    for number, name in enumerate(names):
        write_picture(images / "jazz" / name, recording(700 + number, 12.0))
        write_picture(images / "rock" / f"plain {number}.png", recording(700 + number, 12.0))
    near = tmp_path / "near.csv"
    assert check.main([str(images), "--groups", str(near)]) == 1
    assert split.main([str(images), "-o", str(tmp_path / "data"), "--groups", str(near)]) == 0
    groups = read_groups(near)
    for row in read_rows(tmp_path / "data"):
        if "plain" in row.file or row.file.removeprefix("jazz/") in names:
            assert look_up(groups, row.genre, row.track), row.file
    assert len(groups) == 2 * len(names)


def test_text_that_is_none_is_refused(tmp_path):
    (tmp_path / "groups.csv").write_bytes("a,b\n".encode("utf-16"))
    with pytest.raises(MelvisionError, match="is no text"):
        read_groups(tmp_path / "groups.csv")


def write_probabilities(path, images, wrong, classes=("blues", "jazz", "rock")):
    """predictions.csv of a model that knows the truth: `wrong` tells the true genre of mislabelled files."""
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "file", "genre", "predicted", *classes])
        for picture in sorted(images.rglob("*.png")):
            genre = picture.parent.name
            sure = 0.9 if picture.name in wrong else rng.uniform(0.6, 0.95)
            p = np.full(len(classes), (1 - sure) / (len(classes) - 1))
            p[classes.index(wrong.get(picture.name, genre))] = sure
            writer.writerow(["held out", f"/elsewhere/{genre}/{picture.name}", genre, "", *(f"{x:.4f}" for x in p)])


def test_a_mislabelled_picture_is_doubted(tmp_path, capsys):
    images = tree(tmp_path / "images", n=8)
    table = tmp_path / "predictions.csv"
    write_probabilities(table, images, {"jazz.00003.png": "rock"})
    assert check.main([str(images), "--predictions", str(table), "--html", str(tmp_path / "page.html")]) == 1
    out = capsys.readouterr().out
    assert "attention: 1 picture of 24 with a doubtful label" in out
    assert "jazz/jazz.00003.png: rock?" in out
    assert "jazz/jazz.00003.png: rock?" in (tmp_path / "page.html").read_text()
    assert check.main([str(images), "--predictions", str(table), "--json"]) == 1
    (doubt,) = json.loads(capsys.readouterr().out)["doubts"]
    assert (doubt["file"], doubt["genre"], doubt["suggested"]) == ("jazz/jazz.00003.png", "jazz", "rock")
    assert doubt["p_suggested"] > 0.7 > 0.2 > doubt["p_given"]


def test_doubt_counts_against_how_sure_a_model_usually_is():
    """A timid genre's 0.4 says more than a bold genre's 0.5."""
    y = np.array([0] * 10 + [1] * 10)
    p = np.array([[0.9, 0.1]] * 9 + [[0.45, 0.55]] + [[0.6, 0.4]] * 9 + [[0.1, 0.9]])
    # Usual: 0.86 in genre 0, 0.45 in genre 1. The nine of genre 1 at 0.6 are not sure enough of 0.
    assert find_label_issues(y, p) == ([9], [1])
    assert find_label_issues(y[:0], p[:0]) == ([], [])


def test_pictures_that_were_learned_from_are_not_judged(tmp_path, capsys):
    images = tree(tmp_path / "images", n=8)
    # The same recording under another name: learned from as well.
    write_picture(images / "jazz" / "again.png", (recording(2, 12.0) + 2).clip(-80, 0))
    table = tmp_path / "predictions.csv"
    write_probabilities(table, images, {"jazz.00003.png": "rock", "again.png": "blues"})
    rows = table.read_text().splitlines()
    at = [number for number, line in enumerate(rows) if "blues.00002" in line or "jazz.00003" in line]
    rows = [line.replace("held out", "train") if number in at else line for number, line in enumerate(rows)]
    table.write_text("\n".join(rows))
    health = inspect_folder(images)
    classes, found, learned = read_predictions(table)
    keys = [file_key(look.file) for look in health.looks]
    assert learned == {("blues", "blues.00002.png"), ("jazz", "jazz.00003.png")}
    numbers = {number for number, key in enumerate(keys) if key in learned}
    doubt_labels(health, classes, {n: found[key] for n, key in enumerate(keys) if key in found}, numbers, "it")
    assert health.doubts == []
    (told,) = [finding for finding in health.findings if finding.kind == "unjudged"]
    assert told.told.startswith("3 of 25 pictures were not judged by it: of 3 it learned the label")
    assert not told.attention


def test_a_model_doubts_what_it_was_not_trained_on(trained, tmp_path, capsys):
    """Of the pictures a run was trained on nothing is said; new ones with a wrong label are found."""
    assert check.main([str(trained / "images"), "--model", str(trained / "run"), "--json"]) in (0, 1)
    told = json.loads(capsys.readouterr().out)
    note = next(finding["told"] for finding in told["findings"] if finding["kind"] == "unjudged")
    assert "pictures were not judged" in note
    assert "vision.crossval" in note
    fresh = write_tree(tmp_path / "fresh", 10, start=50)
    (fresh / "jazz" / "jazz.00055.png").rename(fresh / "blues" / "new.00055.png")
    assert check.main([str(fresh), "--model", str(trained / "run")]) == 1
    assert "blues/new.00055.png: jazz?" in capsys.readouterr().out


class Outside(html.parser.HTMLParser):
    """Collects tags, and whatever a browser would fetch from elsewhere."""

    def __init__(self):
        super().__init__()
        self.tags, self.outside = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster") and not value.startswith("data:image/"):
                self.outside.append((tag, name, value))
            assert not name.startswith("on")


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
    parser = Outside()
    parser.feed(text)
    assert parser.outside == []
    assert "script" not in parser.tags
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


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["{}/nowhere"], "there is no such folder"),
        (["{}/images", "--track-seconds", "0"], "--track-seconds 0: expected a length"),
        (["{}/images", "--predictions", "{}/none.csv"], "none.csv: cannot be read"),
        (["{}/images", "--predictions", "{}/other.csv"], "names no picture of"),
        (["{}/images", "--predictions", "{}/short.csv"], "is damaged at line 2"),
        (["{}/images", "--predictions", "{}/groups.csv"], "begins with 'track,group'; expected the predictions.csv"),
        (["{}/images", "--model", "{}/images"], "nobody knows what the model was trained on"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, flags, told):
    tree(tmp_path / "images", n=3)
    (tmp_path / "other.csv").write_text("split,file,genre,predicted,blues\nheld out,a/x.png,blues,blues,1\n")
    (tmp_path / "short.csv").write_text("split,file,genre,predicted,blues\nheld out,a/x.png,blues,blues\n")
    (tmp_path / "groups.csv").write_text("track,group\n")
    assert check.main([flag.format(tmp_path) for flag in flags]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_file_that_goes_away_is_a_finding(tmp_path):
    images = tree(tmp_path / "images")
    looked = inspect_folder(images).looks[0]
    gone = picture_info(tmp_path / "gone.png", looked, Preprocessor())
    assert gone.problem == "is missing"


@needs_data
def test_real_repetitions():
    """All ten equal pairs, and of near ones only what Sturm's index names as one artist and title."""
    health = inspect_folder(DATA / "gtzan_images")
    assert sum(len(numbers) - 1 for numbers in health.equal) == 10
    assert sum(map(health.across, health.equal)) == 1
    title = {}
    for line in (DATA / "splits" / "GTZANindex.txt").read_text(errors="replace").splitlines():
        track, *words = [part.strip().casefold() for part in line.split(":::")]
        title[track.removesuffix(".wav")] = tuple(words[:2])
    pairs = [[health.looks[n].file.split("/")[1][:-4] for n in (pair.first, pair.second)] for pair in health.near]
    # The titles of two are missing or differ in a letter; by eye they are the same.
    different = [pair for pair in pairs if len({title[track] for track in pair}) > 1]
    assert different in ([], [["jazz.00045", "jazz.00071"]])
    assert len(pairs) == 42
    assert FRAME == 0.15


def test_groups_of_a_folder_without_repeats_can_be_given_to_the_split(tmp_path):
    images, near = write_tree(tmp_path / "images", 10), tmp_path / "near.csv"
    check.main([str(images), "--groups", str(near)])
    assert near.read_text() == "track,group\n"
    assert read_groups(near) == {}
    assert split.main([str(images), "-o", str(tmp_path / "data"), "--groups", str(near)]) == 0
    near.write_text("")
    assert split.main([str(images), "-o", str(tmp_path / "other"), "--groups", str(near)]) == 2


def test_a_device_without_a_model_is_no_use(tmp_path, capsys):
    assert check.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "--device cpu: is for --model" in capsys.readouterr().err
