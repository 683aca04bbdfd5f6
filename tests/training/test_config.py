"""Settings from a command line, and back."""

import shlex

import pytest

from vision import train
from vision.training.config import command_of, config_of


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--recipe", "classic", "--seed", "3", "--epochs", "7"],
        ["--no-texture", "--class-weights", "--data", "my data", "--note", "it's; rm -rf $HOME"],
        ["--threads", "2", "--mixup", "0", "--input", "rgb", "--model", "resnet18"],
    ],
)
def test_the_command_in_the_report_makes_the_same_config(flags):
    config = config_of(train.get_parser().parse_args(["--data", "data", *flags]))
    words = shlex.split(command_of(config))
    assert words[:3] == ["python", "-m", "vision.train"]
    assert config_of(train.get_parser().parse_args(words[3:])) == config
