"""Data folders and a run that the tests of training share."""

import pytest

from tests.conftest import BANDS, spectrogram_of, write_picture, write_tree
from tests.training.runs import flags, write_text_only
from vision import train
from vision.training import run


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Train, dev and test of 3 genres."""
    root = tmp_path_factory.mktemp("learning")
    for split, n, start in (("train", 4, 0), ("dev", 2, 4), ("test", 1, 6)):
        write_tree(root / split, n, start=start)
    return root


@pytest.fixture
def no_plots():
    """Leave plots and pages out of the reports of this test's runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_run", write_text_only)
        yield


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """A run of 4 epochs that nothing interrupted, without plots."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_run", write_text_only)
        assert train.main(flags(data, out)) == 0
    return out


@pytest.fixture(scope="session")
def misleading(tmp_path_factory):
    """A dev folder in which each genre holds another one's pictures: the more is learned, the worse."""
    root = tmp_path_factory.mktemp("misleading")
    write_tree(root / "train", 4)
    for genre, other in zip(BANDS, [*BANDS][1:] + [*BANDS][:1], strict=True):
        write_picture(root / "dev" / genre / "1.png", spectrogram_of(other, 4))
    return root
