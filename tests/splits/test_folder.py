"""Nothing of a track, no equal pictures and no group is in two splits; assignments never change."""

import csv
import json
import os
import shutil
from collections import Counter

import pytest
from PIL import Image

from render import __main__ as render
from render.errors import MelvisionError
from tests.conftest import BANDS, spectrogram_of, write_picture, write_tree
from vision import check
from vision.split import main
from vision.splits.assign import SPLITS
from vision.splits.folder import read_rows, split_folder
from vision.splits.keys import track_key
from vision.splits.leaks import find_leaks


def splits_of(data):
    """Every linked file, and its split."""
    return {
        path.relative_to(data / split).as_posix(): split for split in SPLITS for path in (data / split).rglob("*.png")
    }


def test_stratified_by_genre_and_seeded(images, tmp_path):
    split_folder(images, tmp_path / "a")
    split_folder(images, tmp_path / "b")
    split_folder(images, tmp_path / "c", seed=1)
    counts = Counter((file.split("/")[0], split) for file, split in splits_of(tmp_path / "a").items())
    assert counts == {(genre, side): n for genre in BANDS for side, n in zip(SPLITS, (8, 1, 1), strict=True)}
    assert splits_of(tmp_path / "a") == splits_of(tmp_path / "b") != splits_of(tmp_path / "c")


def test_three_tracks_go_to_three_splits(tmp_path):
    write_tree(tmp_path / "images", 3)
    split_folder(tmp_path / "images", tmp_path / "data")
    counts = Counter((file.split("/")[0], split) for file, split in splits_of(tmp_path / "data").items())
    assert set(counts.values()) == {1}
    assert len(counts) == 9


def test_pictures_are_hard_links(images, tmp_path):
    split_folder(images, tmp_path / "data")
    for file, split in splits_of(tmp_path / "data").items():
        assert os.path.samefile(images / file, tmp_path / "data" / split / file)


def test_copies_where_links_cannot_be(images, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    data = tmp_path / "data"
    split_folder(images, data)
    assert len(splits_of(data)) == 30
    file, split = next(iter(splits_of(data).items()))
    write_picture(images / file, spectrogram_of("metal", 99))
    split_folder(images, data)
    assert (data / split / file).read_bytes() == (images / file).read_bytes()


def test_new_pictures_join_and_nothing_moves(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    before = splits_of(data)
    write_tree(images, 10, start=10)
    result = split_folder(images, data)
    after = splits_of(data)
    assert before.items() <= after.items()
    assert len(result.new) == 30
    assert result.problems == []
    assert Counter(row.split for row in result.rows) == {"train": 48, "dev": 6, "test": 6}


def test_equal_pixels_are_kept_together_across_genres_and_formats(images, tmp_path):
    for number in range(10):
        picture = Image.open(images / "blues" / f"blues.{number:05}.png").convert("RGB")
        picture.save(images / "metal" / f"copy {number}.png")
    split_folder(images, tmp_path / "data")
    where = splits_of(tmp_path / "data")
    for number in range(10):
        assert where[f"blues/blues.{number:05}.png"] == where[f"metal/copy {number}.png"]


def test_a_late_duplicate_follows_the_first(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    for file, split in splits_of(data).items():
        Image.open(images / file).convert("RGB").save(images / file.replace(".png", " again.png"))
        split_folder(images, data)
        assert splits_of(data)[file.replace(".png", " again.png")] == split
        if split == "test":
            break


def test_lists_with_equal_pictures_on_two_splits_of(images, tmp_path):
    Image.open(images / "jazz" / "jazz.00000.png").save(images / "jazz" / "jazz.00006.png")
    lists = {
        "train": {f"{g}{n:05}": True for g in BANDS for n in range(6)},
        "dev": {f"{g}{n:05}": True for g in BANDS for n in range(6, 9)},
    }
    problems = split_folder(images, tmp_path / "data", lists=lists).problems
    where = splits_of(tmp_path / "data")
    assert where["jazz/jazz.00006.png"] == "dev"
    assert "jazz/jazz.00000.png" not in where
    assert ["jazz/jazz.00000.png: removed from train" in line for line in problems] == [True]


def test_a_deleted_picture_that_connects_train_to_test_is_removed(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = splits_of(data)
    trained, tested = (next(f for f, side in where.items() if side == s and "blues" in f) for s in ("train", "test"))
    (images / trained).unlink()
    groups = {track_key(trained): "x", track_key(tested): "x"}
    result = split_folder(images, data, groups=groups)
    assert trained not in splits_of(data)
    assert (data / "left_out" / trained).exists(), "perhaps the only copy"
    assert any(trained in problem for problem in result.problems)
    assert any("was moved to" in note for note in result.notes)
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
    problems = split_folder(images, tmp_path / "data", lists=lists).problems
    assert {file.split("/")[0] for file in splits_of(tmp_path / "data")} == {"jazz", "metal"}
    assert sum("its genre has no train picture" in problem for problem in problems) == 3


def test_redrawn_pictures_of_same_size_and_time_are_noticed(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    file, split = next(iter(splits_of(data).items()))
    before = (images / file).stat()
    content = bytearray((images / file).read_bytes())
    other = write_picture(tmp_path / "other.png", spectrogram_of("metal", 5)).read_bytes()
    (images / file).unlink()
    (images / file).write_bytes(other + bytes(max(0, len(content) - len(other))))
    os.utime(images / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    old = {row.file: row.pixels for row in read_rows(data)}
    split_folder(images, data)
    assert (data / split / file).read_bytes() == (images / file).read_bytes()
    assert {row.file: row.pixels for row in read_rows(data)}[file] != old[file]


def test_a_changed_source_is_linked_again_and_a_deleted_one_is_kept(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = splits_of(data)
    changed, deleted, renamed = list(where)[:3]
    write_picture(images / changed, spectrogram_of("metal", 77))
    (images / deleted).unlink()
    (images / renamed).rename(images / renamed.replace(".png", " new.png"))
    notes = split_folder(images, data).notes
    after = splits_of(data)
    assert os.path.samefile(images / changed, data / where[changed] / changed)
    assert deleted in after
    assert any("1 picture is no longer in" in note for note in notes)
    assert renamed not in after
    assert after[renamed.replace(".png", " new.png")] == where[renamed]


def test_a_killed_run_is_completed_by_the_next(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    where = splits_of(data)
    for file in list(where)[::3]:
        (data / where[file] / file).unlink()
    split_folder(images, data)
    assert splits_of(data) == where


def test_hidden_folders_and_files_are_ignored(images, tmp_path):
    write_picture(images / ".ipynb_checkpoints" / "a.png", spectrogram_of("jazz", 50))
    write_picture(images / "jazz" / "._jazz.00000.png", spectrogram_of("jazz", 51))
    (images / "README.md").write_text("hello")
    result = split_folder(images, tmp_path / "data")
    assert len(result.rows) == 30
    assert result.problems == []


def test_unusual_names_and_a_circular_link(images, tmp_path):
    names = ["with space.png", "new\nline.png", "\N{GUITAR}.png", os.fsdecode(b"\xff\xfe.png")]
    for number, name in enumerate(names):
        write_picture(images / "jazz" / "deep" / name, spectrogram_of("jazz", 60 + number))
    (images / "jazz" / "deep" / "loop").symlink_to(images / "jazz")
    split_folder(images, tmp_path / "data")
    rows = read_rows(tmp_path / "data")
    assert len(rows) == 34
    assert {f"jazz/deep/{name}" for name in names} <= {row.file for row in rows}
    assert len(splits_of(tmp_path / "data")) == 34


def test_unchanged_pictures_are_not_hashed_again(images, tmp_path, monkeypatch):
    split_folder(images, tmp_path / "data")
    hashed = []
    monkeypatch.setattr("vision.data.survey.examine", lambda path: hashed.append(path))
    split_folder(images, tmp_path / "data")
    assert hashed == []


def test_without_a_test_split(images, tmp_path):
    split_folder(images, tmp_path / "data", ratios=[80, 20, 0])
    assert Counter(splits_of(tmp_path / "data").values()) == {"train": 24, "dev": 6}


def test_damaged_split_csv_is_refused(images, tmp_path):
    data = tmp_path / "data"
    split_folder(images, data)
    with open(data / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for change in ({"split": "x"}, {"file": "../../etc/passwd"}, {"size": "many"}):
        with open(data / "split.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows([rows[0] | change])
        with pytest.raises(MelvisionError, match=r"split\.csv, line 2: (split|file|size): found "):
            split_folder(images, data)


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_system_folders_and_vanished_folders_in_split_check_and_render(images, tmp_path, capsys):
    for number, name in enumerate(["jazz/@eaDir/jazz.00001.png/THUMB.png", "$RECYCLE.BIN/x.png", "__MACOSX/y.png"]):
        write_picture(images / name, spectrogram_of("jazz", 80 + number))
    (images / "jazz" / "more").symlink_to(tmp_path / "gone")
    (images / "jazz" / "lost.png").symlink_to(tmp_path / "gone.png")
    data, failed = tmp_path / "data", f"failed: {images}/jazz/more: is a link to what is not there\n"
    assert main([str(images), "-o", str(data)]) == 1
    printed = capsys.readouterr()
    assert "passed over 3 folders or files of systems and tools ($RECYCLE.BIN, @eaDir, __MACOSX)" in printed.err
    assert failed in printed.err and "lost.png: cannot be read" in printed.err
    assert len(splits_of(data)) == 30
    assert check.main([str(images)]) == 1
    printed = capsys.readouterr()
    assert failed in printed.err and "passed over 3 folders" in printed.out
    (data / "train" / "jazz" / "more").symlink_to(tmp_path / "gone")
    assert main([str(data), "--check"]) == 1
    (images / "jazz" / "a.wav").touch()
    assert render.main([str(images), "-o", str(tmp_path / "out"), "-j", "1"]) == 1
    assert failed in capsys.readouterr().err


def write_pieces(images, form, tracks=6, start=0):
    for genre in BANDS:
        for number in range(start, tracks):
            for piece in range(2):
                name = form.format(track="abcdefgh"[number], piece=piece, end=piece + 1)
                write_picture(images / genre / f"{name}.png", spectrogram_of(genre, 100 * number + piece))


def tracks_in_two_splits(data):
    splits = {}
    for file, split in splits_of(data).items():
        genre, name = file.split("/")
        splits.setdefault((genre, name[0]), set()).add(split)
    return sum(len(names) > 1 for names in splits.values())


def test_pieces_are_tied_or_brought_up_and_tied_by_the_flag(tmp_path, capsys):
    write_pieces(tmp_path / "clear", "{track} {piece}of2")
    assert main([str(tmp_path / "clear"), "-o", str(tmp_path / "clear data")]) == 0
    assert "--pieces" not in capsys.readouterr().err
    assert tracks_in_two_splits(tmp_path / "clear data") == 0
    images, data = tmp_path / "images", tmp_path / "data"
    write_pieces(images, "{track}_{piece}")
    assert main([str(images), "-o", str(data)]) == 0
    assert "36 of 36 names end in a bare number, such as a_0.png, a_1.png" in capsys.readouterr().err
    assert tracks_in_two_splits(data) > 0
    assert main([str(data), "--check"]) == 0 and "--pieces" in capsys.readouterr().err
    assert main([str(data), "--check", "--pieces"]) == 1
    check.main([str(images)])
    assert "36 of 36 names" in capsys.readouterr().out
    check.main([str(images), "--pieces"])
    assert "36 of 36 names" not in capsys.readouterr().out
    data = tmp_path / "tied"
    assert main([str(images), "-o", str(data), "--pieces"]) == 0
    assert tracks_in_two_splits(data) == 0 and "--pieces" not in capsys.readouterr().err
    write_pieces(images, "{track}_{end}5", tracks=8)
    assert main([str(images), "-o", str(data)]) == 0, "the flag is remembered"
    assert tracks_in_two_splits(data) == 0
    groups = {"a_0": "one", "b_1": "one"}
    split_folder(
        images, tmp_path / "grouped", pieces=True, groups={track_key(name): one for name, one in groups.items()}
    )
    where = splits_of(tmp_path / "grouped")
    assert len({where[f"jazz/{name}.png"] for name in ("a_0", "a_1", "b_0", "b_1")}) == 1


def test_a_split_of_an_earlier_version_stays_as_it_is(tmp_path):
    """Keys were less good then: pieces of one track may be in two splits, and stay there."""
    images, data = tmp_path / "images", tmp_path / "data"
    write_pieces(images, "{track}_crop{piece}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vision.splits.folder.picture_key", lambda genre, name, pieces=False: name.split("/")[-1][:-4])
        split_folder(images, data)
    settings = json.loads((data / "split.json").read_text())
    del settings["pieces"]
    (data / "split.json").write_text(json.dumps(settings))
    before, tables = splits_of(data), (data / "split.csv").read_text()
    assert tracks_in_two_splits(data) > 0
    result = split_folder(images, data)
    assert (splits_of(data), (data / "split.csv").read_text(), result.problems) == (before, tables, [])
    for genre in BANDS:
        write_picture(images / genre / "a_crop7.png", spectrogram_of(genre, 7))
    result = split_folder(images, data)
    after = splits_of(data)
    assert before.items() <= after.items() and result.problems == []
    for genre in BANDS:
        earlier = {before[f"{genre}/a_crop{piece}.png"] for piece in range(2)}
        assert after[f"{genre}/a_crop7.png"] == max(earlier, key=SPLITS.index), "the most protected one"


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
@pytest.mark.parametrize("link", [os.symlink, os.link, shutil.copy])
def test_one_content_under_two_genres_keeps_both_labels_on_one_side(images, tmp_path, capsys, link):
    data, store = tmp_path / "data", tmp_path / "store.png"
    write_picture(store, spectrogram_of("jazz", 77))
    for name in ("blues/same.png", "jazz/other name.png", "jazz/again.png"):
        link(store, images / name)
    assert main([str(images), "-o", str(data)]) == 0
    assert "two genres" in capsys.readouterr().err
    rows = {row.file: row for row in read_rows(data)}
    sides = {row.split for row in rows.values() if row.track in ("same", "other name", "again")}
    assert len(sides) == 1
    both = "jazz/other name.png" in rows
    assert both is (link is not os.symlink), "of two links in one genre one is a picture"
    assert main([str(data), "--check"]) == 0
    assert check.main([str(images)]) == 1 and "across genres" in capsys.readouterr().out


def test_folders_of_artists(tmp_path, capsys):
    images, data = tmp_path / "images", tmp_path / "data"
    for genre in BANDS:
        for artist in range(6):
            for track in range(3):
                path = images / genre / f"Artist {artist}" / f"0{track + 1} Track.png"
                write_picture(path, spectrogram_of(genre, 10 * artist + track))
    split_folder(images, data)
    assert len({(row.genre, row.track) for row in read_rows(data)}) == 18 * len(BANDS), "no two are one track"
    assert main([str(images), "-o", str(tmp_path / "data 2")]) == 0
    assert "--groups-from-folders" in capsys.readouterr().err
    grouped = tmp_path / "data 3"
    assert main([str(images), "-o", str(grouped), "--groups-from-folders"]) == 0
    assert "--groups-from-folders" not in capsys.readouterr().err
    sides = {}
    for row in read_rows(grouped):
        sides.setdefault(row.file.split("/")[1], set()).add(row.split)
    assert all(len(splits) == 1 for splits in sides.values()), "an artist is one group, in all genres"
    assert {split for splits in sides.values() for split in splits} == set(SPLITS)
    assert main([str(grouped), "--check", "--groups-from-folders"]) == 0
    assert main([str(data), "--check", "--groups-from-folders"]) == 1
    write_picture(images / "jazz" / "Artist 0" / "04 New.png", spectrogram_of("jazz", 99))
    split_folder(images, grouped)
    new = [row.split for row in read_rows(grouped) if row.file == "jazz/Artist 0/04 New.png"]
    assert set(new) == sides["Artist 0"], "the flag is remembered"


def test_rows_that_contradict_each_other_are_refused(tmp_path):
    images = write_tree(tmp_path / "images", 3)
    split_folder(images, tmp_path / "data")
    path = tmp_path / "data" / "split.csv"
    before = path.read_text("utf-8")
    header, first, *rest = before.splitlines()
    names = dict(zip(header.split(","), first.split(","), strict=True))
    other = first.replace(f",{names['split']},", f",{'dev' if names['split'] == 'train' else 'train'},")
    for wrong in ([other], [first]):
        path.write_text("\n".join([header, first, *rest, *wrong]) + "\n", "utf-8")
        with pytest.raises(MelvisionError, match=f"two rows for {names['file']}"):
            split_folder(images, tmp_path / "data")
    path.write_text(before.replace(f"{names['file']},{names['genre']},", f"{names['file']},polka,"), "utf-8")
    with pytest.raises(MelvisionError, match="under the genre 'polka'"):
        split_folder(images, tmp_path / "data")
