"""Everything a run's result depends on, besides the pictures."""

import argparse
from dataclasses import dataclass

from render.errors import MelvisionError

#: What each recipe sets; a flag overrides it. ``docs/recipe.md`` tells how the standard one was chosen.
PRESETS = {
    "standard": {
        "model": "vgg", "texture": True, "window": 10.0, "size": 128, "epochs": 30, "optimizer": "adamw",
        "lr": 2e-3, "schedule": "onecycle", "weight_decay": 0.05, "dropout": 0.3, "label_smoothing": 0.1,
        "stretch": 0.1, "shift": 0.025, "colour": 4.0, "mixup": 0.3,
    },
    "classic": {
        "model": "vgg_dense", "texture": False, "window": 0.0, "size": 224, "epochs": 25, "optimizer": "adam",
        "lr": 5e-4, "schedule": "cosine", "weight_decay": 0.0, "dropout": 0.5, "label_smoothing": 0.0,
        "stretch": 0.0, "shift": 0.0, "colour": 0.0, "mixup": 0.0,
    },
}  # fmt: skip


@dataclass
class TrainConfig:
    """Each field is a flag of ``vision.train``; make one with `from_recipe`.

    Attributes
    ----------
    data : str
        Holds train, dev and perhaps test folders.
    recipe : str
        One of `RECIPES`.
    model : str
        As `models.build` takes it.
    weights : str
        Pretrained weights of a torchvision model, or empty.
    texture : bool
        Whether support vector machines on texture statistics give a second opinion.
    window : float
        Seconds of a track that the network takes at once; 0 is the whole track.
    size : int
        Height and width of the network's input, in pixels; a multiple of 32.
    seed, epochs, batch_size : int
        Of training.
    optimizer : str
        ``"adamw"``, ``"adam"`` or ``"sgd"``.
    lr, weight_decay, dropout : float
        The highest learning rate; decay of matrices; dropout before the last layer.
    schedule : str
        ``"onecycle"``: the rate rises over a fifth of the run and falls to zero along a cosine;
        ``"cosine"``: falls only; ``"constant"``.
    stretch, shift : float
        As in `Store.random_windows`: other speed and other pitch, done on the picture.
    colour, mixup : float
    masks : int
        As in `augment`.
    label_smoothing : float
        Share of the target that is spread over all genres.
    class_weights : bool
        Weigh genres by their rarity.
    patience : int
        Stop after so many epochs without a better dev accuracy; 0 never.
    input : str
        ``"levels"``, ``"rgb"``, or ``"auto"``: levels where the colours of every train picture are known.
    track_seconds : float
        Length that pictures without melvision's text chunk are taken to span.
    device, precision : str
        ``"auto"``, or one to insist on.
    threads : int or None
        CPU threads; None is torch's choice.
    note : str
        Shown on top of the report.
    """

    data: str = "data"
    recipe: str = "standard"
    model: str = "vgg"
    weights: str = ""
    texture: bool = True
    window: float = 10.0
    size: int = 128
    seed: int = 0
    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    schedule: str = "onecycle"
    stretch: float = 0.1
    shift: float = 0.025
    colour: float = 4.0
    mixup: float = 0.3
    masks: int = 0
    label_smoothing: float = 0.1
    class_weights: bool = False
    patience: int = 0
    input: str = "auto"
    track_seconds: float = 30.0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    note: str = ""

    @classmethod
    def from_recipe(cls, recipe="standard", **given):
        """Make a config of a recipe's settings and what is given; None stands for not given."""
        given = {name: value for name, value in given.items() if value is not None}
        return cls(**PRESETS[recipe] | given, recipe=recipe)

    def check(self, world=1):
        """Raise MelvisionError where a value is out of its range; the message names the flag.

        `world` is the number of processes that train together.
        """
        least = 2 * world
        rules = [
            ("epochs", 1 <= self.epochs <= 100000, "from 1 to 100000"),
            ("batch_size", least <= self.batch_size <= 65536, f"{least} or more (batch norm needs two a process)"),
            ("lr", 0 < self.lr < 10, "more than 0"),
            ("weight_decay", 0 <= self.weight_decay < 1, "from 0 to 1"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1"),
            ("stretch", 0 <= self.stretch <= 1, "from 0 (none) to 1; 0.1 is a tenth faster or slower"),
            ("shift", 0 <= self.shift <= 0.5, "from 0 (none) to 0.5 of the height"),
            ("colour", 0 <= self.colour <= 40, "from 0 (none) to 40 dB"),
            ("mixup", 0 <= self.mixup <= 100, "from 0 (none) to 100; 0.3 is usual"),
            ("masks", 0 <= self.masks <= 10, "from 0 to 10"),
            ("patience", self.patience >= 0, "0 (never stop early) or more"),
            ("window", self.window == 0 or 0.1 <= self.window < 1e6, "0 (whole track), or seconds from 0.1"),
            ("size", self.size % 32 == 0 and 32 <= self.size <= 1024, "a multiple of 32, from 32 to 1024"),
            ("track_seconds", 0 < self.track_seconds < 1e6, "more than 0"),
            ("threads", self.threads is None or 1 <= self.threads <= 1024, "1 or more"),
            ("seed", 0 <= self.seed < 1 << 31, "from 0 to 2147483647"),
        ]
        for name, good, expected in rules:
            if not good:
                raise MelvisionError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected {expected}")


def add_flags(parser):
    """Give a command line the flags that a config is made of, but for those that say what to train on."""
    add = parser.add_argument
    add("--recipe", choices=list(PRESETS), default="standard", help="settings to begin with (default: %(default)s)")
    told = "of the recipe; standard: {0[standard]}, classic: {0[classic]}"

    def of_recipe(flag, kind, text, **more):
        name = flag.strip("-").replace("-", "_")
        values = {recipe: settings[name] for recipe, settings in PRESETS.items()}
        add(flag, type=kind, help=f"{text} ({told.format(values)})", **more)

    of_recipe("--model", str, "vgg, vgg_dense, cnn2, cnn3, crnn, or one of torchvision's, such as resnet18")
    add("--weights", default="", help="pretrained weights of a torchvision model, such as DEFAULT: downloaded")
    add("--texture", action=argparse.BooleanOptionalAction, help="a second opinion on texture beside the model")
    of_recipe("--window", float, "seconds that the model takes at once, 0: the whole track")
    of_recipe("--size", int, "side of the model's input in pixels")
    of_recipe("--epochs", int, "how often each track is seen")
    add("--batch-size", type=int, default=32, help="pictures a step (default: %(default)s)")
    of_recipe("--optimizer", str, "", choices=["adamw", "adam", "sgd"])
    of_recipe("--lr", float, "highest learning rate")
    of_recipe("--schedule", str, "of the rate", choices=["onecycle", "cosine", "constant"])
    of_recipe("--weight-decay", float, "of matrices")
    of_recipe("--dropout", float, "before the last layer")
    of_recipe("--stretch", float, "train on windows up to this share faster or slower")
    of_recipe("--shift", float, "and up to this share of the height higher or lower")
    of_recipe("--colour", float, "and with low and high out of balance by so many dB")
    of_recipe("--mixup", float, "blend tracks in pairs, by a beta distribution of this alpha")
    add("--masks", type=int, default=0, help="blank out so many stretches of time and of frequency (default: 0)")
    of_recipe("--label-smoothing", float, "share of the target spread over all genres")
    add("--class-weights", action="store_true", help="weigh genres by their rarity, for unequal folders")
    add("--patience", type=int, default=0, help="stop after so many epochs without a better dev (default: 0, never)")
    add("--input", choices=["auto", "levels", "rgb"], default="auto", help="one channel or colours (default: auto)")
    add("--track-seconds", type=float, default=30.0, help="length that pictures made elsewhere span (default: 30)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--device", default="auto", help="cuda, mps or cpu (default: the first of these that is there)")
    add("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="(default: bf16 where it pays)")
    add("--threads", type=int, help="CPU threads (default: torch's choice)")


def config_of(args):
    """Make the config that a parsed command line asks for."""
    given = {name: getattr(args, name) for name in TrainConfig.__dataclass_fields__ if hasattr(args, name)}
    return TrainConfig.from_recipe(**given)


def command_of(config):
    """The command that trains by this config: flags that differ from the recipe's, ready for a shell."""
    import shlex

    usual = TrainConfig.from_recipe(config.recipe)
    words = ["python -m vision.train", "--recipe", config.recipe, "--data", shlex.quote(config.data)]
    for name, value in vars(config).items():
        if name in ("recipe", "data") or (value == getattr(usual, name) and name != "seed"):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, shlex.quote(str(value))]
    return " ".join(words)
