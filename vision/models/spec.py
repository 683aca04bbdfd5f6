"""ModelSpec: what a model file says beside the weights."""

from dataclasses import asdict, dataclass, field

from vision.data.preprocess import LARGEST_SIDE, InputSpec
from vision.models.thresholds import Thresholds

#: Genres of a model, at most.
MOST_CLASSES = 10_000


@dataclass
class ModelSpec:
    """What a model file says beside the weights. JSON-able.

    Attributes
    ----------
    classes : list of str
        Genres in the order of the logits. Never taken from a folder listing again.
    model : dict
        The arguments of `classifier.create_model`, less the number of classes and what `input` says.
    input : InputSpec
        How its input is made.
    about : dict
        Run settings, versions, the kept epoch: for people, not for predicting.
    thresholds : Thresholds
        When an answer is unsure, and what is unlike the training music.
    """

    classes: list[str]
    model: dict
    input: InputSpec
    about: dict = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelSpec":
        """Return the spec that a file holds, which may have come from anywhere.

        Parameters
        ----------
        values : dict
            As `to_dict` made it, or what format 3 called its recipe.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            When it is none of ours; the message says which part.
        """
        values = dict(values)
        if "input" not in values:
            values = _from_format_3(values)
        if "experts" not in values["model"]:
            values |= {"model": _from_format_4(values["model"])}
        if "thresholds" in values:
            values |= {"thresholds": Thresholds.from_dict(values["thresholds"])}
        spec = cls(**values | {"input": InputSpec.from_dict(values["input"])})
        names = spec.classes if isinstance(spec.classes, list) and len(spec.classes) <= MOST_CLASSES else []
        texture, experts = spec.model.get("texture"), spec.model["experts"]
        musicnn = spec.model.get("musicnn", False)
        known = {spec.model.get("name"), *(["texture"] if texture else []), *(["musicnn"] if musicnn else [])}
        rules = {
            "classes": names and all(isinstance(name, str) for name in names) and len(set(names)) == len(names),
            "name": isinstance(spec.model.get("name"), str),
            "mean": _are_numbers(spec.model.get("mean", [0.0]), -1e6),
            "std": _are_numbers(spec.model.get("std", [1.0]), 1e-6),
            "texture": type(texture) is int and 0 <= texture <= LARGEST_SIDE,
            "space": type(spec.model.get("space", 0)) is int and 0 <= spec.model.get("space", 0) <= LARGEST_SIDE,
            "experts": isinstance(experts, dict)
            and experts
            and set(experts) <= known
            and all(type(weight) is float and 0 < weight <= 1 for weight in experts.values())
            and abs(sum(experts.values()) - 1) < 1e-6,
            "musicnn": type(musicnn) is bool,
            "about": isinstance(spec.about, dict),
        }
        for name, good in rules.items():
            if not good:
                raise ValueError(name)
        return spec

    def to_dict(self) -> dict:
        """Return all of it as a dict, for a file."""
        return asdict(self)


def _are_numbers(values: object, least: float) -> bool:
    """Whether it is a list of a number for each channel, from `least` to a million."""
    if not isinstance(values, list) or len(values) not in (1, 3):
        return False
    return all(type(value) in (int, float) and least <= value <= 1e6 for value in values)


def _from_format_3(recipe: dict) -> dict:
    """The fields of a checkpoint or exported file of format 3, as they are named now."""
    model = dict(recipe["model"])
    seconds = recipe.get("seconds", 30.0)
    about = recipe.get("about", {})
    # What pictures of unknown length span was a setting of the run only; predicting took the train tracks' length.
    track_seconds = about.get("config", {}).get("track_seconds", seconds)
    spec = {"size": model.pop("size"), "channels": model.pop("channels"), "typical_seconds": seconds}
    spec |= {"track_seconds": track_seconds} | {name: recipe.get(name) for name in ("window", "render", "drawn")}
    spec["frames"] = recipe.get("frames", [])
    others = {name: value for name, value in recipe.items() if name in ("classes", "about")}
    return others | {"model": model, "input": spec}


def _from_format_4(model: dict) -> dict:
    """A model of format 4 or 3, whose experts had fixed weights and whose vgg is called vgg_small now."""
    name = "vgg_small" if model.get("name") == "vgg" else model.get("name")
    experts = {name: 0.3, "texture": 0.7} if model.get("texture") else {name: 1.0}
    return model | {"name": name, "experts": experts}
