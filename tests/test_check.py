"""The command vision.check: text, JSON, page, groups file and messages."""

import json

import pytest

from tests.conftest import write_picture, write_tree
from tests.quality.recordings import excerpt, foreign, recording, tree, write_faults, write_probabilities
from vision import Predictor, check, split
from vision.splits.folder import read_rows
from vision.splits.groups import look_up, read_groups


def test_a_folder_without_faults(tmp_path, capsys):
    images = tree(tmp_path / "images")
    assert check.main([str(images)]) == 0
    out = capsys.readouterr().out
    assert "12 pictures, nothing to look at" in out
    assert "melvision mel, 128 bands, 22050 Hz, hop 512, magma" in out
    assert "attention" not in out


def test_all_faults_are_reported_in_every_form(tmp_path, capsys):
    page, groups = tmp_path / "page.html", tmp_path / "near.csv"
    flags = ["--track-seconds", "12", "--html", str(page), "--groups", str(groups)]
    images = write_faults(tmp_path / "images")
    assert check.main([str(images), *flags]) == 1
    out = capsys.readouterr().out
    assert "blues/blues.00000.png = rock/blues again.png" in out
    assert "jazz/broken.png: is damaged" in out
    assert check.main([str(images), "--json", *flags]) == 1
    output = json.loads(capsys.readouterr().out)
    assert output["attention"] is True
    assert output["equal"] == [["blues/blues.00000.png", "rock/blues again.png"]]
    assert sum(pair["across"] for pair in output["near"]) == 1
    assert output["genres"]["empty"] == 0
    assert len(output["pictures"]) == sum(output["genres"].values())
    assert page.read_text().count("data:image/jpeg;base64,") >= 10


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


def test_a_wrong_label_is_found(tmp_path, capsys):
    images = tree(tmp_path / "images", n=8)
    table = tmp_path / "predictions.csv"
    write_probabilities(table, images, {"jazz.00003.png": "rock"})
    assert check.main([str(images), "--predictions", str(table), "--html", str(tmp_path / "page.html")]) == 1
    out = capsys.readouterr().out
    assert "attention: 1 picture of 24 with a doubtful label" in out
    assert "jazz/jazz.00003.png: rock?" in out
    assert "jazz/jazz.00003.png: rock?" in (tmp_path / "page.html").read_text()
    assert check.main([str(images), "--predictions", str(table), "--json"]) == 1
    (doubt,) = json.loads(capsys.readouterr().out)["label_issues"]
    assert (doubt["file"], doubt["genre"], doubt["suggested"]) == ("jazz/jazz.00003.png", "jazz", "rock")
    assert doubt["p_suggested"] > 0.7 > 0.2 > doubt["p_given"]


def test_a_model_judges_what_it_was_not_trained_on(trained, tmp_path, capsys):
    """The pictures that a run was trained on are not judged; new ones with a wrong label are found."""
    assert check.main([str(trained / "images"), "--model", str(trained / "run"), "--json"]) in (0, 1)
    output = json.loads(capsys.readouterr().out)
    note = next(finding["message"] for finding in output["findings"] if finding["kind"] == "unjudged")
    assert "pictures were not judged" in note
    assert "vision.crossval" in note
    fresh = write_tree(tmp_path / "fresh", 10, start=50)
    # Doubted is what is more like another genre than that genre's own pictures are on average: here the surest one.
    answers = Predictor(trained / "run", "cpu").predict(sorted((fresh / "jazz").iterdir()))
    surest = max(answers, key=lambda answer: answer.probabilities["jazz"]).path
    surest.rename(fresh / "blues" / "new.00055.png")
    assert check.main([str(fresh), "--model", str(trained / "run")]) == 1
    assert "blues/new.00055.png: jazz?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{}/nowhere"], "there is no such folder"),
        (["{}/images", "--track-seconds", "0"], "--track-seconds 0: expected a length"),
        (["{}/images", "--predictions", "{}/none.csv"], "none.csv: cannot be read"),
        (["{}/images", "--predictions", "{}/other.csv"], "names no picture of"),
        (["{}/images", "--predictions", "{}/short.csv"], "is damaged at line 2"),
        (["{}/images", "--predictions", "{}/groups.csv"], "begins with 'track,group'; expected the predictions.csv"),
        (["{}/images", "--model", "{}/images"], "it is unknown what the model was trained on"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, flags, message):
    tree(tmp_path / "images", n=3)
    (tmp_path / "other.csv").write_text("split,file,genre,predicted,blues\nheld out,a/x.png,blues,blues,1\n")
    (tmp_path / "short.csv").write_text("split,file,genre,predicted,blues\nheld out,a/x.png,blues,blues\n")
    (tmp_path / "groups.csv").write_text("track,group\n")
    assert check.main([flag.format(tmp_path) for flag in flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_groups_of_a_folder_without_repeats_can_be_given_to_the_split(tmp_path):
    images, near = write_tree(tmp_path / "images", 10), tmp_path / "near.csv"
    check.main([str(images), "--groups", str(near)])
    assert near.read_text() == "track,group\n"
    assert read_groups(near) == {}
    assert split.main([str(images), "-o", str(tmp_path / "data"), "--groups", str(near)]) == 0
    near.write_text("")
    assert split.main([str(images), "-o", str(tmp_path / "other"), "--groups", str(near)]) == 2


def test_a_device_needs_a_model(tmp_path, capsys):
    assert check.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "--device cpu: is for --model" in capsys.readouterr().err
