"""`render.formats`: the endings of files that are read."""

import soundfile

from render.formats import AUDIO_ENDINGS, FFMPEG_ENDINGS, PICTURE_ENDINGS, SNDFILE_ENDINGS


def test_endings_are_lower_case_and_listed_once():
    endings = [*AUDIO_ENDINGS, *PICTURE_ENDINGS]
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings)
    assert len(set(endings)) == len(endings)
    assert set(AUDIO_ENDINGS) == {*SNDFILE_ENDINGS, *FFMPEG_ENDINGS}


def test_the_common_formats_of_libsndfile_are_listed():
    common = {"WAV", "AU", "FLAC", "OGG", "MP3", "AIFF", "CAF", "W64", "RF64"}
    assert common <= {*soundfile.available_formats()}
    assert {f".{name.lower()}" for name in common} <= {*SNDFILE_ENDINGS}
