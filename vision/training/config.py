"""Settings of a training run: one table of fields gives flags, defaults, ranges, presets, help and documentation."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

from render.errors import MelvisionError, ParameterError
from vision.data.validate import check, read_json
from vision.models.run_files import OLD_NAMES, current_names

#: Groups of flags on ``--help`` and of rows in docs/settings.md, in this order.
GROUPS = ("data", "model", "optimisation", "augmentation", "hardware", "advanced")

#: Heading of the flags that people use first, above the groups.
FIRST = "most used"

#: Named sets of settings; the first one is what the fields of `TrainConfig` default to.
RECIPES = ("standard", "quick", "finetune", "classic")


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    valid: Callable[[Any], bool] | None = None,
    expected: str = "",
    choices: tuple[str, ...] = (),
    quick: Any = None,
    finetune: Any = None,
    classic: Any = None,
    first: bool = False,
    search: tuple[Any, ...] = (),
) -> Any:
    """Declare a field of `TrainConfig` with all that is to be known of it.

    Parameters
    ----------
    default : object
        Its value in the standard recipe.
    group : str
        One of `GROUPS`.
    help : str
        What it does, in a line without a full stop.
    valid : callable, optional
        Whether a value is in range; by default every value is.
    expected : str
        The range in words, as it follows "expected".
    choices : tuple of str
        The only values allowed, in place of `valid` and `expected`.
    quick, finetune, classic : object, optional
        Its value in the recipe of that name, where that is another one.
    first : bool
        Whether it is one of the flags that people use first.
    search : tuple
        Where ``vision.tune`` looks for a better value: the lowest and the highest number, or names to choose from.
        Empty where it does not.
    """
    if choices:
        valid, expected = choices.__contains__, f"one of {', '.join(choices)}"
    metadata: dict[str, Any] = {"group": group, "help": help, "valid": valid, "expected": expected, "choices": choices}
    metadata |= {"quick": quick, "finetune": finetune, "classic": classic, "first": first}
    metadata["search"] = search
    return field(default=default, metadata=metadata)


@dataclass
class TrainConfig:
    """Everything a training run depends on besides the pictures; each field is a flag of ``vision.train``.

    The fields default to the standard recipe; `from_recipe` begins with another one. docs/settings.md is a table
    of all fields, with their ranges.
    """

    data: str = setting("data", "data", "folder that holds train, dev and perhaps test folders", first=True)
    recipe: str = setting("standard", "model", "settings to begin with", choices=RECIPES, first=True)
    model: str = setting(
        "vgg", "model", "vgg, vgg_small, vgg_dense, cnn2, cnn3, crnn, musicnn (pretrained on songs), or a torchvision "
        "model such as resnet18",
        quick="vgg_small", finetune="mobilenet_v2", classic="vgg_dense", first=True, search=("vgg_small", "vgg"),
    )  # fmt: skip
    weights: str = setting(
        "", "model", "pretrained weights of a torchvision model, such as DEFAULT (downloaded)", finetune="DEFAULT",
    )  # fmt: skip
    init: str = setting("", "model", "run folder whose network the training begins with, also one of other genres")
    experts: str = setting(
        "network:0.6,texture:0.4", "model", "whose probabilities are averaged, and their weights: network (or the "
        "model's name), trained by epochs; texture, support vector machines fitted once; musicnn, a discriminant on "
        "what a network pretrained on 200 000 songs makes of the picture; without network there are no epochs",
        expected="some of network, texture, musicnn, with weights above 0, such as network:0.6,texture:0.4",
        quick="network:0.3,texture:0.7", finetune="network:0.5,texture:0.5", classic="network",
        search=(0.1, 0.9),
    )  # fmt: skip
    window: float = setting(
        7.5, "data", "seconds of a track that the network takes at once; 0 is the whole track",
        valid=lambda value: value == 0 or 0.1 <= value < 1e6, expected="0 (whole track), or seconds from 0.1",
        quick=10.0, classic=0.0,
    )  # fmt: skip
    size: int = setting(
        224, "data", "height and width of the network's input, in pixels",
        valid=lambda value: value % 32 == 0 and 32 <= value <= 1024, expected="a multiple of 32, from 32 to 1024",
        quick=128,
    )  # fmt: skip
    seed: int = setting(
        0, "optimisation", "seed of all random draws",
        valid=lambda value: 0 <= value < 1 << 31, expected="from 0 to 2147483647", first=True,
    )  # fmt: skip
    epochs: int = setting(
        100, "optimisation", "passes over the training set",
        valid=lambda value: 1 <= value <= 100000, expected="from 1 to 100000", quick=30, finetune=12, classic=25,
        first=True,
    )  # fmt: skip
    batch_size: int = setting(
        32, "optimisation", "pictures per step, over all processes",
        valid=lambda value: 2 <= value <= 65536, expected="from 2 to 65536", first=True,
    )  # fmt: skip
    optimizer: str = setting(
        "adamw", "optimisation", "how weights follow gradients: adamw, adam, or sgd with Nesterov momentum 0.9",
        choices=("adamw", "adam", "sgd"), classic="adam",
    )  # fmt: skip
    lr: float = setting(
        2e-3, "optimisation", "highest learning rate",
        valid=lambda value: 0 < value < 10, expected="above 0 and below 10", classic=5e-4, first=True,
        search=(1e-4, 1e-2),
    )  # fmt: skip
    body_lr: float = setting(
        1.0, "optimisation", "learning rate of all layers but the last, as a fraction of --lr: for pretrained ones",
        valid=lambda value: 0 < value <= 1, expected="above 0 and to 1", finetune=0.5,
    )  # fmt: skip
    head_epochs: int = setting(
        0, "optimisation", "epochs at the beginning in which the last layer learns alone: for pretrained ones",
        valid=lambda value: 0 <= value <= 100000, expected="from 0 to 100000", finetune=2,
    )  # fmt: skip
    weight_decay: float = setting(
        0.05, "optimisation", "weight decay; biases and batch norm have none",
        valid=lambda value: 0 <= value < 1, expected="from 0 to below 1", classic=0.0, search=(0.0, 0.2),
    )  # fmt: skip
    dropout: float = setting(
        0.3, "optimisation", "dropout before the last layer",
        valid=lambda value: 0 <= value < 1, expected="from 0 to below 1", classic=0.5, search=(0.0, 0.7),
    )  # fmt: skip
    schedule: str = setting(
        "onecycle", "optimisation", "learning rate over the run: onecycle rises for a fifth of it and falls to zero "
        "along a cosine, cosine only falls, constant stays",
        choices=("onecycle", "cosine", "constant"), classic="cosine",
    )  # fmt: skip
    stretch: float = setting(
        0.1, "augmentation", "maximum change of tempo, as a fraction: 0.1 is up to a tenth faster or slower",
        valid=lambda value: 0 <= value <= 1, expected="from 0 (none) to 1", classic=0.0, search=(0.0, 0.25),
    )  # fmt: skip
    shift: float = setting(
        0.025, "augmentation", "maximum vertical shift, as a fraction of the height",
        valid=lambda value: 0 <= value <= 0.5, expected="from 0 (none) to 0.5", classic=0.0, search=(0.0, 0.1),
    )  # fmt: skip
    random_eq: float = setting(
        4.0, "augmentation", "random equaliser: standard deviation of its smooth curve over frequency, in dB",
        valid=lambda value: 0 <= value <= 40, expected="from 0 (none) to 40 dB", classic=0.0,
        search=(0.0, 10.0),
    )  # fmt: skip
    mixup: float = setting(
        0.3, "augmentation", "blend tracks in pairs, in proportions from a beta distribution with this alpha",
        valid=lambda value: 0 <= value <= 100, expected="from 0 (none) to 100", classic=0.0, search=(0.0, 1.0),
    )  # fmt: skip
    masks: int = setting(
        0, "augmentation", "number of time masks and of frequency masks per picture (SpecAugment)",
        valid=lambda value: 0 <= value <= 10, expected="from 0 to 10", search=(0, 2),
    )  # fmt: skip
    label_smoothing: float = setting(
        0.1, "optimisation", "fraction of the target that is spread over all genres",
        valid=lambda value: 0 <= value < 1, expected="from 0 to below 1", classic=0.0, search=(0.0, 0.3),
    )  # fmt: skip
    soft_labels: float = setting(
        0.5, "optimisation", "fraction of the target that comes from support vector machines on texture that have not "
        "seen the track",
        valid=lambda value: 0 <= value <= 1, expected="from 0 to 1", quick=0.0, classic=0.0, search=(0.0, 1.0),
    )  # fmt: skip
    class_weights: bool = setting(
        False, "advanced", "weight each genre by the inverse of its frequency, for unequal folders",
    )  # fmt: skip
    patience: int = setting(
        0, "advanced", "stop after this many epochs without a better dev accuracy; 0 is never",
        valid=lambda value: value >= 0, expected="0 (never stop early) or more",
    )  # fmt: skip
    input: str = setting(
        "auto", "advanced", "one channel of levels or three of colour; auto: levels where the colours of every "
        "training picture are a known colormap",
        choices=("auto", "levels", "rgb"),
    )  # fmt: skip
    track_seconds: float = setting(
        30.0, "advanced", "length of the tracks, in seconds, for pictures drawn by other programs",
        valid=lambda value: 0 < value < 1e6, expected="above 0 and below 1000000",
    )  # fmt: skip
    device: str = setting(
        "auto", "hardware", "cuda, cuda:1, mps or cpu; auto: the first of cuda, mps, cpu that is available", first=True,
    )  # fmt: skip
    precision: str = setting(
        "auto", "hardware", "precision of the network; auto: bf16 where the hardware multiplies it, else fp32",
        choices=("auto", "fp32", "bf16"),
    )  # fmt: skip
    threads: int | None = setting(
        None, "hardware", "CPU threads, by default PyTorch's choice",
        valid=lambda value: value is None or 1 <= value <= 1024, expected="from 1 to 1024",
    )  # fmt: skip
    log: str = setting(
        "csv", "advanced", "where the scores of each epoch go: csv is history.csv; tensorboard writes event files "
        "besides, with a batch of inputs and the confusion matrix, into the run folder",
        choices=("csv", "tensorboard"),
    )  # fmt: skip
    note: str = setting("", "advanced", "a line to show at the top of the report")

    @classmethod
    def from_recipe(cls, recipe: str = "standard", **given: Any) -> "TrainConfig":
        """Make a config of a recipe's settings and what is given; None stands for not given.

        Raises
        ------
        ParameterError
            When there is no such recipe.
        """
        if recipe not in PRESETS:
            raise ParameterError("recipe", recipe, f"one of {', '.join(PRESETS)}")
        given = {name: value for name, value in given.items() if value is not None}
        return cls(**PRESETS[recipe] | given, recipe=recipe)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "TrainConfig":
        """Make a config of what ``config.json`` holds, also where an earlier version wrote it.

        Raises
        ------
        ValueError
            When there is a setting that no version has, or a value of another type or out of its range; the message
            names it.
        """
        settings = current_names(settings)
        unknown = [name for name in settings if name not in cls.__dataclass_fields__]
        if unknown:
            raise ValueError(f"{unknown[0]}: there is no such setting; docs/settings.md lists those there are")
        config = check(settings, cls)
        try:
            config.check()
        except ParameterError as error:
            raise ValueError(f"{error.parameter}: found {error.value!r}; expected {error.expected}") from None
        return config

    @property
    def expert_weights(self) -> dict[str, float]:
        """The weights of the experts, by name, with the network under its model's; their sum is 1."""
        weights = parse_experts(self.experts, self.model)
        return {self.model if name == NETWORK else name: weight for name, weight in weights.items()}

    def check(self, world: int = 1) -> None:
        """Check that every value is in its range.

        Parameters
        ----------
        world : int
            Number of processes that train together.

        Raises
        ------
        ParameterError
            For the first value that is not.
        """
        for one in fields(self):
            value, valid = getattr(self, one.name), one.metadata["valid"]
            try:
                good = valid is None or valid(value)
            except (TypeError, ValueError):  # no number
                good = False
            if one.name == "experts":  # may name the model
                good = bool(parse_experts(str(value), self.model))
            if not good:
                raise ParameterError(one.name, value, one.metadata["expected"])
        if self.batch_size < 2 * world:
            raise ParameterError("batch_size", self.batch_size, f"{2 * world} or more (batch norm needs two a process)")


#: The expert that is trained, whatever its model.
NETWORK = "network"

#: The experts that ``--experts`` may name.
EXPERTS = (NETWORK, "texture", "musicnn")


def parse_experts(text: str, model: str = NETWORK) -> dict[str, float]:
    """Parse the value of ``--experts``, such as ``"network:0.6,texture:0.4"``.

    Parameters
    ----------
    text : str
        Names with or without weights; without them, all count alike.
    model : str
        Another name of the network.

    Returns
    -------
    weights : dict of str to float
        Their sum is 1; empty where the text is none of this.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        name = NETWORK if name == model else name
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            return {}
        if name not in EXPERTS or name in weights or not 0 < value < 1e6:
            return {}
        weights[name] = value
    total = sum(weights.values())
    return {name: value / total for name, value in weights.items()}


def parse_seeds(text: str) -> list[int]:
    """Parse the value of ``--seeds``, such as ``"0,1,2"``.

    Raises
    ------
    ParameterError
        When it is not a list of different numbers from 0.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if len(set(seeds)) != len(seeds) or len(seeds) < 2 or not all(0 <= seed < 1 << 31 for seed in seeds):
        raise ParameterError("seeds", text, "at least two different numbers from 0, such as 0,1,2")
    return seeds


def _presets() -> dict[str, dict[str, Any]]:
    others = RECIPES[1:]
    differ = [one for one in fields(TrainConfig) if any(one.metadata[recipe] is not None for recipe in others)]
    presets = {RECIPES[0]: {one.name: one.default for one in differ}}
    for recipe in others:
        own = {one.name: one.metadata[recipe] for one in differ}
        presets[recipe] = {one.name: one.default if own[one.name] is None else own[one.name] for one in differ}
    return presets


#: What each recipe sets; flags override it. docs/recipe.md tells how the standard one was chosen.
PRESETS = _presets()


def _defaults(name: str) -> dict[str, Any]:
    """The default of a setting in each recipe."""
    usual = TrainConfig.__dataclass_fields__[name].default
    return {recipe: settings.get(name, usual) for recipe, settings in PRESETS.items()}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)


def flag_groups(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Make the groups of a command line, by title: `FIRST` for the command's own flags, and `GROUPS`."""
    return {title: parser.add_argument_group(title) for title in (FIRST, *GROUPS)}


def add_flags(groups: dict[str, Any]) -> None:
    """Add a flag for every setting but ``data``: the command says by itself what to train on.

    Flags that are not given are None, so that the recipe's value counts: see `config_of`.

    Parameters
    ----------
    groups : dict of str to argument group
        From `flag_groups`.
    """
    help = "settings as a run's config.json has them, or some of them, in JSON or YAML; flags go before it"
    groups["advanced"].add_argument("--config", metavar="FILE", help=help)
    for one in fields(TrainConfig):
        if one.name != "data":
            groups[FIRST if one.metadata["first"] else one.metadata["group"]].add_argument(
                _flag(one.name), help=_help(one), **_kind(one)
            )
    # Earlier spellings.
    for flag, experts in {"--no-texture": NETWORK, "--texture": TrainConfig.experts}.items():
        help = "--experts network" if flag == "--no-texture" else argparse.SUPPRESS
        groups["model"].add_argument(flag, dest="experts", action="store_const", const=experts, help=help)
    for old, name in OLD_NAMES.items():
        one = TrainConfig.__dataclass_fields__[name]
        groups[one.metadata["group"]].add_argument(_flag(old), dest=name, help=argparse.SUPPRESS, **_kind(one))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kind(one: Any) -> dict[str, Any]:
    """How argparse is to take a setting: arguments of ``add_argument``."""
    if one.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    kind = next((part for part in get_args(one.type) if part is not type(None)), one.type)
    return {
        "type": kind,
        "choices": one.metadata["choices"] or None,
        "metavar": None if one.metadata["choices"] else "X",
    }


def _help(one: Any) -> str:
    standard, *others = _defaults(one.name).items()
    differing = "".join(f"; {recipe}: {_shown(value)}" for recipe, value in others if value != standard[1])
    # argparse takes % for a placeholder.
    return f"{one.metadata['help']} (default: {_shown(standard[1])}{differing})".replace("%", "%%")


def config_of(args: argparse.Namespace) -> TrainConfig:
    """Make the config that a parsed command line asks for.

    Raises
    ------
    MelvisionError
        When the file of ``--config`` cannot be used.
    """
    given = {name: getattr(args, name, None) for name in TrainConfig.__dataclass_fields__}
    if not args.config:
        return TrainConfig.from_recipe(given.pop("recipe") or RECIPES[0], **given)
    todo = "expected settings by the names of docs/settings.md, such as those in a run's config.json"
    content = read_json(args.config, dict[str, Any], todo)
    settings = content["config"] if isinstance(content.get("config"), dict) else content
    recipe = settings.get("recipe", RECIPES[0])
    if given.pop("recipe") not in (None, recipe):
        raise MelvisionError(f"--recipe {args.recipe}: {args.config} is of the recipe {recipe}; give one of the two")
    try:
        # The command says what to train on, not the file.
        usual = vars(TrainConfig.from_recipe(recipe)) if recipe in RECIPES else {}
        config = TrainConfig.from_dict(usual | current_names(settings) | {"data": TrainConfig.data})
    except (ValueError, ParameterError) as error:
        raise MelvisionError(f"{args.config}: {error}; {todo}") from None
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def command_of(config: TrainConfig, command: str = "", *, seed: bool = True) -> str:
    """The command that trains by this config: flags that differ from the recipe's, ready for a shell.

    Parameters
    ----------
    config : TrainConfig
    command : str
        Another command with the same flags, in place of ``vision.train`` and its data folder.
    seed : bool
        Whether to name the seed.
    """
    usual = TrainConfig.from_recipe(config.recipe)
    words = [command or f"python -m vision.train --data {shlex.quote(config.data)}", "--recipe", config.recipe]
    for name, value in vars(config).items():
        if name in ("recipe", "data") or (not seed if name == "seed" else value == getattr(usual, name)):
            continue
        if isinstance(value, bool):
            words.append(_flag(name) if value else _flag(f"no_{name}"))
        else:
            words += [_flag(name), shlex.quote(str(value))]
    return " ".join(words)


def search_text(values: tuple[Any, ...]) -> str:
    """Say where ``vision.tune`` looks for a setting's value: "0 to 0.7", or nothing where it does not."""
    if values and isinstance(values[0], str):
        return " or ".join(values)
    return f"{values[0]:g} to {values[1]:g}" if values else ""


def settings_table() -> str:
    """All settings in Markdown, a table for each group: what docs/settings.md holds."""
    lines = []
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", ""]
        lines.append(f"| flag | field | {' | '.join(RECIPES)} | expected | searched | meaning |")
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for one in fields(TrainConfig):
            if one.metadata["group"] == group:
                about, values = one.metadata, [_shown(value) for value in _defaults(one.name).values()]
                if one.name == "recipe":
                    values = list(RECIPES)
                cells = [f"`{_flag(one.name)}`", f"`{one.name}`", *values]
                cells += [about["expected"], search_text(about["search"]), about["help"]]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
