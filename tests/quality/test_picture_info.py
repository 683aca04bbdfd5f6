"""What is read from one picture."""

from tests.quality.recordings import tree
from vision.data.preprocess import Preprocessor
from vision.quality.inspect import inspect_folder
from vision.quality.picture_info import picture_info


def test_a_missing_file_is_a_problem(tmp_path):
    images = tree(tmp_path / "images")
    info = inspect_folder(images).pictures[0]
    missing = picture_info(tmp_path / "gone.png", info, Preprocessor())
    assert missing.problem == "is missing"
