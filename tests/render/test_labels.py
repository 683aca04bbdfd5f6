"""Genres from a table: which file a row names, what a table may look like, and what is refused."""

import pytest
import soundfile

import render.__main__ as render_command
from render.errors import MelvisionError
from render.labels import LabelColumns, read_labels
from tests.conftest import BANDS, band_noise
from vision import split
from vision.splits.folder import read_rows


@pytest.fixture
def audio(tmp_path):
    """Files as FMA has them, 000/000002.mp3 and so on, and one of a name of its own."""
    for name in ("000/000002.wav", "000/000010.wav", "001/001234.wav", "extra/bird song.wav"):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, band_noise("jazz", seconds=1.0), 22050)
    return tmp_path / "audio"


def write(tmp_path, text, encoding="utf-8"):
    (tmp_path / "tracks.csv").write_bytes(text.encode(encoding))
    return tmp_path / "tracks.csv"


def genres(labelled):
    return {track.path.name: track.genre for track in labelled.tracks}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("track_id,genre\n2,Rock\n10,Jazz\n", "utf-8"),
        ("filename;label\r\n000002.wav;Rock\r\n000/000010.wav;Jazz\r\n", "utf-8-sig"),
        ("path\tcategory\tx\n./000/000002\tRock\n000\\000010.wav\tJazz\t1\n\n", "utf-8"),
        ('File,Title,Label\n"000002.wav","a, b",Rock\n000010,,Jazz\n', "utf-8-sig"),
    ],
)
def test_tables_of_many_kinds(audio, tmp_path, text, encoding):
    labelled = read_labels(write(tmp_path, text, encoding), audio)
    assert genres(labelled) == {"000002.wav": "Rock", "000010.wav": "Jazz"}
    assert any("2 files have no row" in note for note in labelled.notes)


def test_what_is_left_out_is_said(audio, tmp_path):
    (audio / "002").mkdir()
    (audio / "002" / "bird song.wav").write_bytes((audio / "extra" / "bird song.wav").read_bytes())
    table = write(tmp_path, "file,label\n2,Rock\n77,Pop\n10,\nbird song,Birds\nextra/bird song.wav,Hip-Hop/Rap\n")
    labelled = read_labels(table, audio)
    assert genres(labelled) == {"000002.wav": "Rock", "bird song.wav": "Hip-Hop-Rap"}
    notes = "\n".join(labelled.notes)
    for part in ("1 rows name no file", "1 rows name several files", "1 rows have no label", "'Hip-Hop/Rap' is Hip-Ho"):
        assert part in notes


def test_several_labels_are_refused_or_decided(audio, tmp_path):
    table = write(tmp_path, "file,label\n2,Rock\n10,Jazz\n2,Pop\n2,Rock\n")
    with pytest.raises(MelvisionError, match=r"1 track has several labels, such as 000.000002.wav \(Rock, Pop\)"):
        read_labels(table, audio)
    assert genres(read_labels(table, audio, LabelColumns(multi="first"))) == {
        "000002.wav": "Rock",
        "000010.wav": "Jazz",
    }
    assert genres(read_labels(table, audio, LabelColumns(multi="drop"))) == {"000010.wav": "Jazz"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("file,mood\n2,sad\n", "--label-column"),
        ("a,label\n2,Rock\n", "its columns are a, label; name one with --path-column"),
        ("file,label\n88,Rock\n", "none of its 1 rows names a file"),
        ("file,label,label\n2,Rock,Pop\n", "--label-column"),
        ('file,label\n"2,Rock\n', "is no table"),
        ("file,label\n2,Rock\n\xff", None),
    ],
)
def test_what_is_no_table_gets_one_line(audio, tmp_path, capsys, text, expected):
    table = write(tmp_path, text, "utf-8" if expected else "latin-1")
    assert render_command.main([str(audio), "-o", str(tmp_path / "out"), "--labels", str(table)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(table) in error and (expected or "not in UTF-8") in error
    assert not (tmp_path / "out").exists()


def test_labels_cannot_leave_the_pictures_folder(audio, tmp_path):
    table = write(tmp_path, "file,label\n2,../../evil\n10,..\n1234,.hidden\n")
    assert set(genres(read_labels(table, audio)).values()) == {"-evil".strip(" .-"), "unnamed", "hidden"}


def test_the_flags_go_together(audio, tmp_path, capsys):
    assert render_command.main([str(audio), "--label-column", "x"]) == 2
    assert "go with --labels only" in capsys.readouterr().err


def test_from_a_table_to_a_split_by_artist(tmp_path, capsys):
    """Drawn, drawn again, and divided so that no artist is on two sides."""
    lines = ["id;style;artist"]
    for number in range(24):
        genre = list(BANDS)[number % 3]
        path = tmp_path / "audio" / f"{number:06}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, band_noise(genre, seconds=1.0) * (1 + number) / 30, 22050)
        lines.append(f"{number};{genre};artist {number // 6}")
    table = write(tmp_path, "\n".join(lines))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "audio"), "-o", str(out), "--labels", str(table), "-j", "1"]
    columns = ["--label-column", "style", "--group-column", "artist"]
    assert render_command.main([*arguments, *columns]) == 0
    assert "24 drawn" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(BANDS)
    assert render_command.main([*arguments, *columns]) == 0
    assert "24 fresh" in capsys.readouterr().out
    groups = ["--groups", str(out / "groups.csv")]
    assert split.main([str(out), "-o", str(tmp_path / "data"), *groups, "--ratios", "50/25/25"]) == 0
    sides = {}
    for row in read_rows(tmp_path / "data"):
        artist = int(row.file.split("/")[-1].split(".")[0]) // 6
        sides.setdefault(artist, set()).add(row.split)
    assert len(sides) == 4 and all(len(side) == 1 for side in sides.values())


def test_pictures_are_split_by_a_table(images, tmp_path, capsys):
    """Pictures of three genres, all in one folder, labelled by a table; an artist a genre's first half."""
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,genre,artist"]
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        (flat / f"{number:03}.png").write_bytes(path.read_bytes())
        lines.append(f"{number:03}.png,{path.parent.name},{path.parent.name} {number % 10 // 5}")
    table = write(tmp_path, "\n".join(lines))
    arguments = [str(flat), "-o", str(tmp_path / "data"), "--labels", str(table), "--group-column", "artist"]
    for _ in range(2):  # again changes nothing
        assert split.main([*arguments, "--ratios", "50/50/0"]) == 0
        rows = read_rows(tmp_path / "data")
        assert len(rows) == 30 and {row.genre for row in rows} == set(BANDS)
        sides = {}
        for row in rows:
            number = int(row.file.split("/")[-1].split(".")[0])
            sides.setdefault((row.genre, number % 10 // 5), set()).add(row.split)
        assert len(sides) == 6 and all(len(side) == 1 for side in sides.values())
    assert (tmp_path / "flat_by_label").is_dir()
    capsys.readouterr()
    table.write_text(table.read_text().replace("000.png,blues", "000.png,jazz"))
    assert split.main(arguments) == 2
    assert "does not put it there" in capsys.readouterr().err
