"""Track keys: the same for the pieces, copies and formats of one track."""

import time

import pytest

from vision.splits.keys import is_copy, picture_key, possible_pieces, track_key


def test_track_key():
    same = ["blues00012.png", "blues.00012.png", "blues/blues.00012.wav", "Blues_00012.PNG", "blues.00012.3.png"]
    assert {track_key(name) for name in same} == {"blues00012"}
    copies = ["song.png", "song.wav.png", "song (1).png", "song_aug.png", "Song-copy 2.png", "dir\\song.wav"]
    assert {track_key(name) for name in copies} == {"song"}
    assert track_key("\xfcber.png") == track_key("u\u0308ber.png")
    assert track_key("my song+aug3.png") == track_key("My Song_seg02.png") == track_key("my song.flac")
    different = ["1 2.png", "12.png", "blues.00013.png", "a.png", "b.png", "live 2001.png", "live 2002.png"]
    assert len({track_key(name) for name in different}) == len(different)


@pytest.mark.parametrize(
    "names",
    [
        "song_0-30|song_30-60|song_0s-30s|song_0-30s|song_10.0-20.0|song_10.0_20.0|song_0_30s|song_30sec|song_3000ms",
        "song_00m30s-01m00s|song (0:30-1:00)|song_0:30-1:00|song_000-030|song [30-60]|song_start0_end30|song_1m-2m",
        "song_3of10|song 3 of 10|song (3 of 10)|song_3_of_10|song_part1of3|song_part_1_of_3|song-03of10",
        "song.wav_3|song.mp3-03|song.wav.3|song.wav (3)|song.flac_chunk3|song.wav_0_30",
        "song_crop1|song_win_03|song-frame-12|song_offset30.5|song_excerpt2|song_patch7",
        "song_pitch+2|song_pitch-2|song_pitch_up|song_tempo1.1|song_speed_0.9|song_noise2|song_ps-1.5|song_timestretch",
        "song_crop1_pitch+2|song_seg02+aug1|song+aug3",
        "song - Copy|song - Copy (2) - Copy|song copy 2|Copy of song|song (1) (2)|song - Kopie (2)|song [1]",
    ],
)
def test_what_names_a_piece_beyond_doubt_is_tied(names):
    assert {track_key(name + ".png") for name in names.split("|")} == {"song"}


def test_numbers_behind_names_like_gtzans_are_pieces():
    names = {
        "blues00000": "blues.00000_3|blues.00000-3|blues00000_03|blues.00000.wav_3|blues.00000_0-30|blues.00000",
        "hip hop00003": "hip-hop.00003_1|Hip Hop 00003-2|hip-hop.00003",
        "blues12": "blues_12_3|blues_12_4",
        "000140": "000140_1|000140.2|000140",
        "track0012": "track_0012-3|track_0012",
    }
    for key, same in names.items():
        assert {track_key(name + ".png") for name in same.split("|")} == {key}
        assert {track_key(name + ".png", pieces=True) for name in same.split("|")} == {key}


def test_bare_numbers_are_tied_on_demand_only():
    names = [f"{name}_{number}.png" for name in ("song", "other song") for number in range(3)]
    assert len({track_key(name) for name in names}) == 6
    assert {track_key(name, pieces=True) for name in names} == {"song", "other song"}
    (note,) = possible_pieces("images", [("rock", name) for name in [*names, "plain.png", "live 2001.png"]])
    assert "images: 6 of 8 names" in note and "2 tracks" in note and "--pieces" in note
    assert possible_pieces("images", [("rock", "a_1.png"), ("jazz", "a_2.png"), ("rock", "rock.00000.png")]) == []
    different = (
        "live 1999-2001|live 2001|Haircut 100|symphony_5_2|sonata 12-3|op. 10-12|01 - Intro|02 - Intro|U2|Echo 3"
    )
    assert len({track_key(name) for name in different.split("|")}) == 10
    assert track_key("segment_2") != track_key("segment_3"), "there is no more to the name"


def test_only_a_number_at_the_end_makes_an_augmented_copy():
    assert is_copy("song+aug1.png") and is_copy("rock/song+aug12.wav.png")
    assert not any(map(is_copy, ["hot+august+night.png", "song+aug.png", "a+aug1/song.png", "song+aug1 live.png"]))
    assert track_key("hot+august+night.png") != track_key("hot.png")


def test_keys_of_long_names_take_no_time():
    start = time.monotonic()
    for name in ("a" * 250, "a_" * 125, "a.wav" * 50, "1-" * 125, " (1" * 80, "0" * 250, "1m" * 120):
        track_key(name + "!.png", pieces=True)
    assert time.monotonic() - start < 1


def test_folders_tell_the_tracks_of_albums_apart():
    names = ["A/01 Intro.png", "B/01 Intro.png", "A/CD 2/01 Intro.png", "A/02 Intro.png", "A/Track 1.png"]
    keys = {picture_key("rock", f"rock/{name}") for name in names}
    assert len(keys) == len(names)
    assert keys == {picture_key("rock", f"/data/train/rock/{name.replace('.png', '_seg3.png')}") for name in names}


def test_other_names_mean_the_same_in_any_folder():
    assert picture_key("rock", "rock/wav/song.wav.png") == picture_key("rock", "rock/mp3/song.png") == "song"
    assert picture_key("rock", "rock/01 Intro.png") == track_key("01 Intro.png")


def test_bare_numbers_in_a_folder_are_pieces_of_it():
    assert picture_key("rock", "rock/My Song/1.png") == picture_key("rock", "rock/My Song/002.png") == "my song"
