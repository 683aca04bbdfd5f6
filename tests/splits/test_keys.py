"""Track keys: the same for the pieces, copies and formats of one track."""

from vision.splits.keys import track_key


def test_track_key():
    same = ["blues00012.png", "blues.00012.png", "blues/blues.00012.wav", "Blues_00012.PNG", "blues.00012.3.png"]
    assert {track_key(name) for name in same} == {"blues00012"}
    copies = ["song.png", "song.wav.png", "song (1).png", "song_aug.png", "Song-copy 2.png", "dir\\song.wav"]
    assert {track_key(name) for name in copies} == {"song"}
    assert track_key("\xfcber.png") == track_key("u\u0308ber.png")
    assert track_key("my song+aug3.png") == track_key("My Song_seg02.png") == track_key("my song.flac")
    different = ["1 2.png", "12.png", "blues.00013.png", "a.png", "b.png", "live 2001.png", "live 2002.png"]
    assert len({track_key(name) for name in different}) == len(different)
