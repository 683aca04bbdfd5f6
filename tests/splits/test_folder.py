"""Nothing of a track, no equal pictures and no group on two sides; assignments never move."""

import csv
import json
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from render.errors import MelvisionError
from tests.conftest import BANDS, DATA, needs_data, spectrogram_of, write_picture, write_tree
from vision.data.dataset import SpectrogramFolder
from vision.split import main
from vision.splits.assign import SPLITS, Row, assign_splits, straddling
from vision.splits.folder import read_rows, split_folder
from vision.splits.groups import connected_components, look_up, read_groups, read_list
from vision.splits.keys import track_key
from vision.splits.leaks import find_leaks


def sides(data):
    """Every linked file, and the side it is on."""
    return {
        path.relative_to(data / split).as_posix(): split for split in SPLITS for path in (data / split).rglob("*.png")
    }


def test_track_key():
    same = ["blues00012.png", "blues.00012.png", "blues/blues.00012.wav", "Blues_00012.PNG", "blues.00012.3.png"]
    assert {track_key(name) for name in same} == {"blues00012"}
    copies = ["song.png", "song.wav.png", "song (1).png", "song_aug.png", "Song-copy 2.png", "dir\\song.wav"]
    assert {track_key(name) for name in copies} == {"song"}
    assert track_key("\xfcber.png") == track_key("u\u0308ber.png")
    assert track_key("my song+aug3.png") == track_key("My Song_seg02.png") == track_key("my song.flac")
    different = ["1 2.png", "12.png", "blues.00013.png", "a.png", "b.png", "live 2001.png", "live 2002.png"]
    assert len({track_key(name) for name in different}) == len(different)


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 4))), min_size=1, max_size=40))
def test_tie_joins_exactly_what_is_connected(items):
    groups = connected_components([one for one, _ in items], [other for _, other in items])
    # The same by brute force: spread the smallest number until nothing changes.
    expected = list(range(len(items)))
    for _ in items:
        for a, left in enumerate(items):
            for b, right in enumerate(items):
                if left[0] == right[0] or (left[1] is not None and left[1] == right[1]):
                    expected[a] = expected[b] = min(expected[a], expected[b])
    assert groups == expected


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 6)), min_size=3, max_size=60),
    st.integers(0, 3),
)
def test_groups_never_straddle(items, seed):
    """Tracks, equal pixels and artists drawn at random, half of them assigned earlier by somebody."""
    rows = [
        Row(f"{genre}/{number}", genre, f"t{track}", "", ["", SPLITS[number % 3]][number % 2], "", f"p{number // 2}")
        for number, (genre, track, _) in enumerate(items)
    ]
    groups = {f"t{track}": f"artist{track % 4}" for _, track, artist in items if artist < 2}
    before = [row.split for row in rows]
    assign_splits(rows, [], lists={}, groups=groups, ratios={"train": 0.8, "dev": 0.1, "test": 0.1}, seed=seed)
    assert straddling(rows) == []
    assert all(row.split for row in rows)
    assert all(was in ("", row.split) for was, row in zip(before, rows, strict=True))


def test_stratified_by_genre_and_seeded(images, tmp_path):
    split_folder(images, tmp_path / "a")
    split_folder(images, tmp_path / "b")
    split_folder(images, tmp_path / "c", seed=1)
    counts = Counter((file.split("/")[0], side) for file, side in sides(tmp_path / "a").items())
    assert counts == {(genre, side): n for genre in BANDS for side, n in zip(SPLITS, (8, 1, 1), strict=True)}
    assert sides(tmp_path / "a") == sides(tmp_path / "b") != sides(tmp_path / "c")


def test_three_tracks_go_to_three_sides(tmp_path):
    write_tree(tmp_path / "images", 3)
    split_folder(tmp_path / "images", tmp_path / "data")
    counts = Counter((file.split("/")[0], side) for file, side in sides(tmp_path / "data").items())
    assert set(counts.values()) == {1}
    assert len(counts) == 9


def test_pictures_are_hard_links(images, tmp_path):
    split_folder(images, tmp_path / "data")
    for file, side in sides(tmp_path / "data").items():
        assert os.path.samefile(images / file, tmp_path / "data" / side / file)


def test_copies_where_links_cannot_be(images, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    data = tmp_path / "data"
    split_folder(images, data)
    assert len(sides(data)) == 30
    file, side = next(iter(sides(data).items()))
    write_picture(images / file, spectrogram_of("metal", 99))
    split_folder(images, data)
    assert (data / side / file).read_bytes() == (images / file).read_bytes()


def test_new_pictures_join_and_nothing_moves(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    before = sides(data)
    write_tree(images, 10, start=10)
    rows, problems, _, new = split_folder(images, data)
    after = sides(data)
    assert before.items() <= after.items()
    assert len(new) == 30
    assert problems == []
    assert Counter(row.split for row in rows) == {"train": 48, "dev": 6, "test": 6}


def test_equal_pixels_are_kept_together_across_genres_and_formats(images, tmp_path):
    for number in range(10):
        picture = Image.open(images / "blues" / f"blues.{number:05}.png").convert("RGB")
        picture.save(images / "metal" / f"copy {number}.png")
    split_folder(images, tmp_path / "data")
    where = sides(tmp_path / "data")
    for number in range(10):
        assert where[f"blues/blues.{number:05}.png"] == where[f"metal/copy {number}.png"]


def test_a_late_duplicate_follows_the_first(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    for file, side in sides(data).items():
        Image.open(images / file).convert("RGB").save(images / file.replace(".png", " again.png"))
        split_folder(images, data)
        assert sides(data)[file.replace(".png", " again.png")] == side
        if side == "test":
            break


def test_groups_file_that_comes_later_takes_the_train_side_out(images, tmp_path, capsys):
    data = tmp_path / "data"
    assert main([str(images), "-o", str(data)]) == 0
    before = sides(data)
    tested = next(file for file, side in before.items() if side == "test" and file.startswith("blues"))
    artist = [f"blues.{number:05}" for number in range(5)] + [tested[6:-4]]
    (tmp_path / "artists.csv").write_text("track,group\n" + "".join(f"{name},B. B. King\n" for name in artist))
    assert main([str(images), "-o", str(data), "--groups", str(tmp_path / "artists.csv")]) == 1
    told = capsys.readouterr().err
    after = sides(data)
    assert after[tested] == "test"
    for name in artist:
        file = f"blues/{name}.png"
        if before[file] == "train":
            assert file not in after
            assert f"{file}: taken out of train, tied to a test picture" in told
    # Left out, not forgotten: the row keeps its side.
    assert {row.file: row.split for row in read_rows(data)} == before
    # The groups stay in force when the command is run again without the file.
    assert main([str(images), "-o", str(data)]) == 1
    assert sides(data) == after


def test_published_lists(images, tmp_path, capsys):
    (tmp_path / "train.txt").write_text("".join(f"{g}/{g}.{n:05}.wav\n" for g in BANDS for n in range(6)))
    (tmp_path / "dev.txt").write_text("".join(f"{g}{n:05}.png\n" for g in BANDS for n in range(6, 9)) + "jazz.00077\n")
    lists = ["--train-list", str(tmp_path / "train.txt"), "--dev-list", str(tmp_path / "dev.txt")]
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 0
    captured = capsys.readouterr()
    assert "1 tracks of the dev list have no picture: jazz00077" in captured.err
    assert captured.out.splitlines()[-2].split() == ["all", "18", "9", "0", "3"]
    where = sides(tmp_path / "data")
    assert where["jazz/jazz.00005.png"] == "train"
    assert where["jazz/jazz.00006.png"] == "dev"
    assert "jazz/jazz.00009.png" not in where
    write_tree(images, 1, start=10)
    assert main([str(images), "-o", str(tmp_path / "data")]) == 0
    assert sides(tmp_path / "data") == where


def test_lists_with_equal_pictures_on_two_sides(images, tmp_path):
    Image.open(images / "jazz" / "jazz.00000.png").save(images / "jazz" / "jazz.00006.png")
    lists = {
        "train": {f"{g}{n:05}": True for g in BANDS for n in range(6)},
        "dev": {f"{g}{n:05}": True for g in BANDS for n in range(6, 9)},
    }
    _, problems, _, _ = split_folder(images, tmp_path / "data", lists=lists)
    where = sides(tmp_path / "data")
    assert where["jazz/jazz.00006.png"] == "dev"
    assert "jazz/jazz.00000.png" not in where
    assert ["jazz/jazz.00000.png: taken out of train" in line for line in problems] == [True]


def test_a_gone_picture_that_ties_train_to_test_is_taken_out(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = sides(data)
    trained, tested = (next(f for f, side in where.items() if side == s and "blues" in f) for s in ("train", "test"))
    (images / trained).unlink()
    groups = {track_key(trained): "x", track_key(tested): "x"}
    _, problems, notes, _ = split_folder(images, data, groups=groups)
    assert trained not in sides(data)
    assert (data / "left_out" / trained).exists(), "perhaps the only copy"
    assert any(trained in problem for problem in problems)
    assert any("was moved to" in note for note in notes)
    assert find_leaks(data, groups) == ([], [])


def test_a_renamed_genre_leaves_no_empty_class(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    (images / "blues").rename(images / "delta blues")
    split_folder(images, data)
    for split in SPLITS:
        assert sorted(path.name for path in (data / split).iterdir()) == ["delta blues", "jazz", "metal"]


def test_a_genre_without_train_pictures_is_left_out_everywhere(images, tmp_path):
    lists = {
        "train": {f"{g}{n:05}": True for g in ("jazz", "metal") for n in range(6)},
        "dev": {f"{g}{n:05}": True for g in BANDS for n in range(6, 9)},
    }
    _, problems, _, _ = split_folder(images, tmp_path / "data", lists=lists)
    assert {file.split("/")[0] for file in sides(tmp_path / "data")} == {"jazz", "metal"}
    assert sum("its genre has no train picture" in problem for problem in problems) == 3


def test_redrawn_pictures_of_same_size_and_time_are_noticed(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    file, side = next(iter(sides(data).items()))
    before = (images / file).stat()
    content = bytearray((images / file).read_bytes())
    other = write_picture(tmp_path / "other.png", spectrogram_of("metal", 5)).read_bytes()
    (images / file).unlink()
    (images / file).write_bytes(other + bytes(max(0, len(content) - len(other))))
    os.utime(images / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    old = {row.file: row.pixels for row in read_rows(data)}
    split_folder(images, data)
    assert (data / side / file).read_bytes() == (images / file).read_bytes()
    assert {row.file: row.pixels for row in read_rows(data)}[file] != old[file]


def test_lists_and_groups_that_match_nothing_are_told(images, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("genres_original/blues.00000.wav\n")
    lists = [f"--train-list={tmp_path / 'list.txt'}", f"--dev-list={tmp_path / 'list.txt'}"]
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 2
    assert "no picture is on the train list" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    (tmp_path / "list.txt").write_text("".join(f"{g}\\{g}.0000{n}.wav\n" for g in BANDS for n in range(5)))
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 1
    assert "15 tracks are on two lists" in capsys.readouterr().err
    (tmp_path / "groups.csv").write_text("nobody,knows\n")
    assert main([str(images), "-o", str(tmp_path / "d2"), "--groups", str(tmp_path / "groups.csv")]) == 0
    assert "1 of the 1 tracks in the groups file have no picture" in capsys.readouterr().err


def test_a_folder_that_is_split_already_is_not_taken_for_genres(images, tmp_path, capsys):
    split_folder(images, tmp_path / "data")
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "Train")
    assert main([str(tmp_path / "data"), "-o", str(tmp_path / "d2")]) == 2
    assert "is split already" in capsys.readouterr().err


def test_pieces_of_one_track_are_not_three_tracks(images, tmp_path, capsys):
    for number in range(3):
        write_picture(images / "polka" / f"song_seg{number}.png", spectrogram_of("jazz", 70 + number))
    assert main([str(images), "-o", str(tmp_path / "data")]) == 2
    assert "fewer than three tracks in polka (1)" in capsys.readouterr().err


def test_stray_pictures_are_noted_and_bad_outputs_are_one_line(images, tmp_path, capsys):
    write_picture(images / "stray.png", spectrogram_of("jazz", 80))
    (tmp_path / "file").write_text("")
    assert main([str(images), "-o", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert main([str(images), "-o", str(tmp_path / "data")]) == 0
    assert "stray.png: lies outside a genre folder" in capsys.readouterr().err


def test_changed_source_is_linked_anew_and_gone_source_is_kept(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = sides(data)
    changed, gone, renamed = list(where)[:3]
    write_picture(images / changed, spectrogram_of("metal", 77))
    (images / gone).unlink()
    (images / renamed).rename(images / renamed.replace(".png", " new.png"))
    _, _, notes, _ = split_folder(images, data)
    after = sides(data)
    assert os.path.samefile(images / changed, data / where[changed] / changed)
    assert gone in after
    assert any("1 pictures are gone" in note for note in notes)
    assert renamed not in after
    assert after[renamed.replace(".png", " new.png")] == where[renamed]


def test_a_killed_run_completes(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = sides(data)
    for file in list(where)[::3]:
        (data / where[file] / file).unlink()
    split_folder(images, data)
    assert sides(data) == where


def test_hidden_folders_and_files_are_no_genres(images, tmp_path):
    write_picture(images / ".ipynb_checkpoints" / "a.png", spectrogram_of("jazz", 50))
    write_picture(images / "jazz" / "._jazz.00000.png", spectrogram_of("jazz", 51))
    (images / "README.md").write_text("hello")
    rows, problems, _, _ = split_folder(images, tmp_path / "data")
    assert len(rows) == 30
    assert problems == []


def test_odd_names_and_a_link_in_a_circle(images, tmp_path):
    names = ["with space.png", "new\nline.png", "\N{GUITAR}.png", os.fsdecode(b"\xff\xfe.png")]
    for number, name in enumerate(names):
        write_picture(images / "jazz" / "deep" / name, spectrogram_of("jazz", 60 + number))
    (images / "jazz" / "deep" / "loop").symlink_to(images / "jazz")
    split_folder(images, tmp_path / "data")
    rows = read_rows(tmp_path / "data")
    assert len(rows) == 34
    assert {f"jazz/deep/{name}" for name in names} <= {row.file for row in rows}
    assert len(sides(tmp_path / "data")) == 34


def test_unchanged_pictures_are_not_hashed_again(images, tmp_path, monkeypatch):
    split_folder(images, tmp_path / "data")
    hashed = []
    monkeypatch.setattr("vision.data.survey.examine", lambda path: hashed.append(path))
    split_folder(images, tmp_path / "data")
    assert hashed == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "no genre folder in it"),
        (lambda root: (root / "jazz").mkdir(parents=True), "no picture in it"),
        (lambda root: root.write_text(""), "it is a file"),
        (lambda root: write_tree(root, 5, ["jazz"]), "1 genre only (jazz)"),
        (lambda root: [write_tree(root, 5, ["jazz", "blues"]), write_tree(root, 2, ["metal"])], "metal (2)"),
        (lambda root: [(root / "jazz").mkdir(parents=True), (root / "jazz" / "a.wav").touch()], "python -m render"),
    ],
)
def test_bad_folders(tmp_path, capsys, make, told):
    make(tmp_path / "images")
    assert main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_unusable_pictures_and_empty_genres_are_named(images, tmp_path, capsys):
    (images / "jazz" / "bad.png").write_bytes(b"nothing")
    (images / "polka").mkdir()
    assert main([str(images), "-o", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "bad.png: cannot be read" in told
    assert "note: " in told and "polka: no picture in this genre folder" in told
    assert len(sides(tmp_path / "data")) == 30


def test_a_folder_split_otherwise_is_not_mixed(images, tmp_path, capsys):
    data = tmp_path / "data"
    assert main([str(images), "-o", str(data)]) == 0
    for other in (["--seed", "1"], ["--ratios", "60/20/20"]):
        assert main([str(images), "-o", str(data), *other]) == 2
        assert "assignments never move" in capsys.readouterr().err
    write_tree(tmp_path / "hand" / "train", 3)
    assert main([str(images), "-o", str(tmp_path / "hand")]) == 2
    assert "split by hand" in capsys.readouterr().err


@pytest.mark.parametrize("ratios", ["80", "80/20", "a/b/c", "0/50/50", "80/0/20", "1/2/inf", "-1/1/1"])
def test_bad_ratios(images, tmp_path, capsys, ratios):
    assert main([str(images), "-o", str(tmp_path / "data"), f"--ratios={ratios}"]) == 2
    assert "80/10/10" in capsys.readouterr().err


def test_no_test_side(images, tmp_path):
    split_folder(images, tmp_path / "data", ratios=[80, 20, 0])
    assert Counter(sides(tmp_path / "data").values()) == {"train": 24, "dev": 6}


def test_damaged_split_csv_is_refused(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    with open(data / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for harm in ({"split": "x"}, {"file": "../../etc/passwd"}, {"size": "many"}):
        with open(data / "split.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows([rows[0] | harm])
        with pytest.raises(MelvisionError, match="damaged"):
            split_folder(images, data)


def test_check_finds_planted_leaks(images, tmp_path, capsys):
    data = tmp_path / "data"
    for split, numbers in (("train", range(5)), ("val", range(5, 7)), ("test", range(7, 9))):
        for genre in BANDS:
            for number in numbers:
                write_picture(data / split / genre / f"{genre}.{number:05}.png", spectrogram_of(genre, number))
    assert main([str(data), "--check"]) == 0
    assert "0 leaks" in capsys.readouterr().out
    write_picture(data / "test" / "jazz" / "other name.png", spectrogram_of("jazz", 0))
    write_picture(data / "val" / "jazz" / "jazz00001.seg2.png", np.zeros((128, 64), np.float32))
    (tmp_path / "groups.csv").write_text("metal.00000,X\nmetal.00007,X\n")
    assert main([str(data), "--check", "--groups", str(tmp_path / "groups.csv")]) == 1
    told = capsys.readouterr().out
    assert "equal pictures in test and train" in told
    assert "the same track in dev and train" in told
    assert "one group (x) in test and train" in told
    assert "3 leaks" in told
    assert main([str(images), "--check"]) == 2


def test_lists_and_groups_with_and_without_genre(tmp_path):
    (tmp_path / "list.txt").write_text("rock/01.wav\n\nplain 7.mp3\n")
    keys = read_list(tmp_path / "list.txt")
    assert look_up(keys, "rock", "01")
    assert not look_up(keys, "blues", "01")
    assert look_up(keys, "blues", track_key("plain 7.png"))
    (tmp_path / "index.txt").write_text("rock.00001.wav ::: The  Who ::: My Generation\nrock.00002.wav ::: ::: \n")
    assert read_groups(tmp_path / "index.txt") == {"rock00001": "the who"}
    for text in ("", "one column\n"):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(MelvisionError, match=r"track,group"):
            read_groups(tmp_path / "bad.csv")
    with pytest.raises(MelvisionError, match="cannot be read"):
        read_list(tmp_path / "nowhere.txt")


@needs_data
def test_the_published_filtered_split(tmp_path):
    sources = {"train": "train_filtered.txt", "dev": "valid_filtered.txt"}
    lists = [f"--{side}-list={DATA / 'splits' / name}" for side, name in sources.items()]
    assert main([str(DATA / "gtzan_images"), "-o", str(tmp_path / "data"), *lists]) == 0
    assert Counter(sides(tmp_path / "data").values()) == {"train": 442, "dev": 197}
    leaks, problems = find_leaks(tmp_path / "data", read_groups(DATA / "splits" / "GTZANindex.txt"))
    assert problems == []
    print("\n".join(leaks))
    assert not any("track" in leak or "equal" in leak for leak in leaks)
    assert json.loads((tmp_path / "data" / "split.json").read_text())["lists"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_that_lead_back_end_and_change_no_genre(images, tmp_path):
    """The first genre's link to the top would make all pictures its own; two of them more paths than can be listed."""
    before = SpectrogramFolder(images).samples
    for genre in ("blues", "jazz"):
        (images / genre / "up").symlink_to("..")
        (images / genre / "self").symlink_to(".")
    (images / "blues" / "metal").symlink_to("../metal")
    assert SpectrogramFolder(images).samples == before
    write_tree(tmp_path / "elsewhere", 1, ["jazz"], start=90)
    (images / "jazz" / "more").symlink_to(tmp_path / "elsewhere")
    added = set(SpectrogramFolder(images).samples) - set(before)
    assert added == {(str(images / "jazz/more/jazz/jazz.00090.png"), 1)}
    (images / "rock").symlink_to(tmp_path / "elsewhere" / "jazz")
    assert SpectrogramFolder(images, ["blues", "jazz", "metal", "pop", "rock"]).empty == ["pop"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_genre_folder_may_be_a_link(tmp_path):
    write_tree(tmp_path / "music", 2, ["jazz", "metal"])
    (tmp_path / "images").mkdir()
    for genre in ("jazz", "metal"):
        (tmp_path / "images" / genre).symlink_to(tmp_path / "music" / genre)
    assert [label for _, label in SpectrogramFolder(tmp_path / "images").samples] == [0, 0, 1, 1]
