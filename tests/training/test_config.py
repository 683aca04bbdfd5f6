"""One table of settings gives flags, defaults, ranges, presets, help and documentation."""

import argparse
import json
import shlex
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from render.errors import MelvisionError, ParameterError
from vision import crossval, train
from vision.training.config import (
    GROUPS,
    PRESETS,
    TrainConfig,
    add_flags,
    command_of,
    config_of,
    flag_groups,
    parse_seeds,
    settings_table,
)

ROOT = Path(__file__).parents[2]
SETTINGS = TrainConfig.__dataclass_fields__


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_flags(flag_groups(parser))
    return config_of(parser.parse_args(arguments))


def test_settings_from_a_file(tmp_path):
    """As a run writes them, or some of them in JSON or YAML; flags go before them."""
    of_a_run = TrainConfig.from_recipe("quick", lr=5e-4, epochs=7, data="elsewhere")
    (tmp_path / "config.json").write_text(json.dumps({"config": asdict(of_a_run), "threads": 2}))
    (tmp_path / "some.json").write_text(json.dumps({"recipe": "quick", "lr": 5e-4, "epochs": 7}))
    (tmp_path / "some.yaml").write_text("recipe: quick\nlr: 5e-4\nepochs: 7\n")
    for name in ("config.json", "some.json", "some.yaml"):
        expected = asdict(of_a_run) | {"data": "data", "seed": 3}
        assert asdict(parse("--config", str(tmp_path / name), "--seed", "3")) == expected
        assert parse("--config", str(tmp_path / name), "--epochs", "9").epochs == 9


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.json", '{"epoch": 3}', "epoch: "),
        ("a.json", '{"lr": "fast"}', "lr: found 'fast'"),
        ("a.json", '{"schedule": "nope"}', "schedule: found 'nope'"),
        ("a.json", '{"recipe": 5}', "recipe"),
        ("a.json", '{"recipe": ["quick"]}', "recipe"),
        ("a.json", '{"config": 3}', "config"),
        ("a.json", "[1]", "expected object"),
        ("a.json", "{", "line 1"),
        ("a.yaml", "lr: [", "no YAML"),
        ("a.yaml", "lr: .nan", "lr: found nan"),
        ("a.yaml", "&a [*a]", "expected object"),
        ("a.yaml", "lr: !!python/object/apply:os.getcwd []", "no YAML"),
    ],
)
def test_a_wrong_file_of_settings_is_refused_by_key(tmp_path, name, content, named):
    (tmp_path / name).write_text(content)
    with pytest.raises(MelvisionError) as caught:
        parse("--config", str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_beside_a_file_of_another_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"recipe": "quick"}')
    with pytest.raises(MelvisionError, match="one of the two"):
        parse("--config", str(tmp_path / "a.json"), "--recipe", "classic")


def test_presets():
    """What docs/recipe.md was measured with."""
    assert PRESETS["standard"] == {
        "model": "vgg", "experts": "network:0.6,texture:0.4", "window": 7.5, "size": 224, "epochs": 100,
        "optimizer": "adamw", "lr": 2e-3, "schedule": "onecycle", "weight_decay": 0.05, "dropout": 0.3,
        "label_smoothing": 0.1, "soft_labels": 0.5, "stretch": 0.1, "shift": 0.025, "random_eq": 4.0, "mixup": 0.3,
        "weights": "", "body_lr": 1.0, "head_epochs": 0,
    }  # fmt: skip
    quick = {"model": "vgg_small", "experts": "network:0.3,texture:0.7", "window": 10.0, "size": 128, "epochs": 30}
    assert PRESETS["quick"] == PRESETS["standard"] | quick | {"soft_labels": 0.0}
    pretrained = {"model": "mobilenet_v2", "weights": "DEFAULT", "epochs": 12, "body_lr": 0.5, "head_epochs": 2}
    assert PRESETS["finetune"] == PRESETS["standard"] | pretrained | {"experts": "network:0.5,texture:0.5"}
    assert PRESETS["classic"] == {
        "model": "vgg_dense", "experts": "network", "soft_labels": 0.0, "window": 0.0, "size": 224, "epochs": 25,
        "optimizer": "adam",
        "lr": 5e-4, "schedule": "cosine", "weight_decay": 0.0, "dropout": 0.5, "label_smoothing": 0.0,
        "stretch": 0.0, "shift": 0.0, "random_eq": 0.0, "mixup": 0.0, "weights": "", "body_lr": 1.0, "head_epochs": 0,
    }  # fmt: skip
    for recipe in PRESETS:
        TrainConfig.from_recipe(recipe).check()


def test_flags_that_are_not_given_leave_the_recipes_values():
    assert parse() == TrainConfig()
    assert parse("--recipe", "classic") == TrainConfig.from_recipe("classic")
    assert parse("--recipe", "classic", "--lr", "0.1", "--texture").lr == 0.1
    assert parse("--no-texture").expert_weights == {"vgg": 1.0}
    assert parse("--model", "cnn2", "--experts", "texture:1,cnn2:3").expert_weights == {"texture": 0.25, "cnn2": 0.75}


def test_every_setting_has_a_flag_that_sets_it():
    other = {str: "other", float: "0.125", int: "64", int | None: "3"}
    for one in fields(TrainConfig):
        if one.name == "data":
            continue
        flag, choices = "--" + one.name.replace("_", "-"), one.metadata["choices"]
        given = [flag] if one.type is bool else [flag, choices[-1] if choices else other[one.type]]
        if one.type is bool and one.default:
            given = [flag.replace("--", "--no-")]
        value = getattr(parse(*given), one.name)
        assert value != one.default and isinstance(value, one.type), one.name


def test_the_old_name_of_a_flag_is_accepted():
    assert parse("--colour", "2").random_eq == parse("--random-eq", "2").random_eq == 2


@pytest.mark.parametrize("command", [train, crossval])
def test_help_shows_every_flag_in_a_group(command, capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    sections = {part.partition(":\n")[0]: part for part in shown.split("\n\n")}
    assert {"most used", *GROUPS} <= set(sections)
    assert list(sections).index("most used") < min(list(sections).index(group) for group in GROUPS)
    for one in fields(TrainConfig):
        if one.name != "data":
            section = "most used" if one.metadata["first"] else one.metadata["group"]
            assert f"  --{one.name.replace('_', '-')}" in sections[section]
    assert "colour " not in sections["augmentation"]


def test_the_12_flags_that_people_use_first(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    first = capsys.readouterr().out.partition("most used:\n")[2].partition("\n\n")[0]
    assert len([line for line in first.splitlines() if line.startswith("  --")]) == 12
    assert first.startswith("  --data")


WRONG = {
    "window": [-1, 0.05, 1e6], "size": [0, 100, 2048], "seed": [-1, 1 << 31], "epochs": [0, 100001, "many"],
    "batch_size": [1, 65537], "lr": [0, -1, 10, float("nan")], "weight_decay": [-0.1, 1], "dropout": [-0.1, 1],
    "optimizer": ["adagrad"], "schedule": ["linear"], "stretch": [-0.1, 1.1], "shift": [-0.1, 0.6],
    "random_eq": [-1, 41], "mixup": [-1, 101], "masks": [-1, 11], "label_smoothing": [-0.1, 1],
    "soft_labels": [-0.1, 1.1], "patience": [-1],
    "input": ["grey"], "log": ["wandb"], "track_seconds": [0, 1e6], "precision": ["fp16"],
    "body_lr": [0, 1.1], "head_epochs": [-1, 100001], "threads": [0, 1025], "recipe": ["best"],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_values_out_of_range(name):
    for value in WRONG[name]:
        config = TrainConfig(**{name: value})
        with pytest.raises(ParameterError) as error:
            config.check()
        assert error.value.parameter == name
        assert error.value.expected == SETTINGS[name].metadata["expected"]


def test_what_has_a_range_is_tested():
    assert set(WRONG) == {one.name for one in fields(TrainConfig) if one.metadata["valid"]}


def test_batch_norm_needs_two_pictures_a_process():
    TrainConfig(batch_size=4).check(world=2)
    with pytest.raises(ParameterError, match="batch_size=3: expected 4 or more"):
        TrainConfig(batch_size=3).check(world=2)


def test_no_such_recipe():
    with pytest.raises(ParameterError, match="recipe='best'"):
        TrainConfig.from_recipe("best")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--recipe", "classic", "--seed", "3", "--epochs", "7", "--texture"],
        ["--no-texture", "--class-weights", "--data", "my data", "--note", "it's; rm -rf $HOME"],
        ["--threads", "2", "--mixup", "0", "--input", "rgb", "--model", "resnet18"],
    ],
)
def test_the_command_in_the_report_makes_the_same_config(flags):
    config = config_of(train.get_parser().parse_args(["--data", "data", *flags]))
    words = shlex.split(command_of(config))
    assert words[:3] == ["python", "-m", "vision.train"]
    assert config_of(train.get_parser().parse_args(words[3:])) == config


def test_seeds():
    assert parse_seeds("0,1,2") == [0, 1, 2]
    for text in ("1", "1,1", "a,b", "1,-2", ""):
        with pytest.raises(ParameterError):
            parse_seeds(text)


def test_the_documentation_is_in_step():
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert settings_table() in text, "python -c 'from vision.training.config import *; print(settings_table())'"
    for one in fields(TrainConfig):
        assert f"| `{one.name}` |" in text


@pytest.mark.parametrize(
    "experts", ["", "best", "vgg:0", "vgg,vgg", "vgg:0.5,network:0.5", "vgg:x", "texture:-1", "vgg:"]
)
def test_experts_that_cannot_be(experts):
    with pytest.raises(ParameterError) as error:
        TrainConfig(experts=experts).check()
    assert error.value.parameter == "experts"


def test_settings_of_earlier_versions_keep_their_model():
    old = {name: value for name, value in asdict(TrainConfig()).items() if name not in ("experts", "soft_labels")}
    config = TrainConfig.from_dict(old | {"texture": True})
    assert (config.model, config.expert_weights) == ("vgg_small", {"vgg_small": 0.3, "texture": 0.7})
    assert config.soft_labels == 0
    assert TrainConfig.from_dict(old | {"texture": False}).expert_weights == {"vgg_small": 1.0}
