"""The map of tracks: where they lie, what the page says, and the page in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from tests.conftest import band_noise
from vision import map as map_command
from vision.reports.map_page import place
from vision.reports.recordings import sound_of, url_of

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 40])
def test_places_are_within_the_page_and_the_same_again(n):
    values = np.random.default_rng(0).normal(0, 1, (n, 6)).astype(np.float32)
    places = place(values)
    assert places.shape == (n, 2) and np.isfinite(places).all() and places.min() >= 0 and places.max() <= 1
    assert np.array_equal(places, place(values))


def test_groups_stay_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 20)
    places = place((rng.normal(0, 1, (60, 30)) + 8 * rng.normal(0, 1, (3, 30))[groups]).astype(np.float32))
    distances = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(60)
    assert (groups[distances.argmin(axis=1)] == groups).all()


def test_equal_tracks_can_be_placed():
    assert np.isfinite(place(np.ones((12, 4), np.float32))).all()


def test_recordings_are_found_by_name(tmp_path):
    for name in ("a/x.wav", "b/x.wav", "b/y #1.wav"):
        (tmp_path / "songs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "songs" / name).touch()
    found = map_command_recordings(tmp_path / "songs")
    assert sound_of(tmp_path / "b" / "x.png", found) == tmp_path / "songs" / "b" / "x.wav"
    assert sound_of(tmp_path / "c" / "x.png", found) is None  # which of the two?
    only = sound_of(tmp_path / "c" / "y #1.png", found)
    assert url_of(only, tmp_path / "pages" / "map.html") == "../songs/b/y%20%231.wav"
    assert sound_of(tmp_path / "z.mp3", {}) == tmp_path / "z.mp3"


def map_command_recordings(folder):
    from vision.reports.recordings import find_recordings

    return find_recordings(folder)


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """A map of the test pictures, one of which has a recording."""
    root = tmp_path_factory.mktemp("map")
    recording = root / "genres" / "blues" / "blues.00000.wav"
    recording.parent.mkdir(parents=True)
    soundfile.write(recording, band_noise("blues"), 22050)
    arguments = [str(trained / "run"), str(trained / "images"), "--audio", str(root / "genres")]
    assert map_command.main([*arguments, "-o", str(root / "map.html")]) == 0
    return root / "map.html"


def test_the_page_holds_every_track_and_nothing_from_elsewhere(page, trained):
    text = page.read_text("utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert len(data["tracks"]) == 36 and data["classes"] == ["blues", "jazz", "metal"]
    for number, track in enumerate(data["tracks"]):
        assert track["picture"].startswith("data:image/") and len(track["near"]) == 5
        assert all(other != number for other, _ in track["near"])
    assert [track["name"] for track in data["tracks"] if track["sound"]] == ["blues.00000"]
    assert "http" not in re.sub(r"data:image/[^\"]*", "", text)


def test_wrong_input_gets_a_line(trained, tmp_path, capsys):
    assert map_command.main([str(trained / "run"), str(trained / "images"), "--audio", str(tmp_path / "no")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(b"none")
    assert map_command.main([str(trained / "run"), str(tmp_path), "-o", str(tmp_path / "map.html")]) == 2
    assert not (tmp_path / "map.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver")
def test_the_page_in_a_browser(page):
    """With the keyboard and the mouse, and a name with a recording."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.keys import Keys

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1200,1000"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.get(page.as_uri())
        canvas = driver.find_element("id", "map")
        canvas.send_keys(Keys.ARROW_RIGHT)
        first = driver.find_element("css selector", "#card h2").text
        canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
        seen = driver.find_element("css selector", "#card h2").text
        assert first and seen and driver.find_element("css selector", "#card img").size["width"] > 100
        driver.find_element("css selector", "#card li button").click()
        assert driver.find_element("css selector", "#card h2").text != seen
        search = driver.find_element("id", "search")
        search.send_keys("blues.00000")
        assert driver.find_element("id", "found").text == "1 found"
        assert driver.execute_script("return document.querySelector('#card audio').src").endswith("blues.00000.wav")
        search.clear()
        search.send_keys("<b>", Keys.BACKSPACE)
        driver.find_elements("css selector", "#genres button")[0].click()
        assert driver.find_elements("css selector", "#genres button")[0].get_attribute("aria-pressed") == "false"
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
