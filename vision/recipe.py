"""How a model sees pictures: what a checkpoint and an exported file say beside the weights."""

from dataclasses import dataclass, field

from render.settings import Settings
from vision.transforms import RemoveBorder

#: A side of a picture, in pixels, that no network of ours comes near.
LARGEST = 1 << 14
#: Lengths of tracks and windows that make sense, in seconds: others make pictures of absurd width.
LENGTHS = (1e-6, 1e7)


@dataclass
class Recipe:
    """How a model sees pictures. JSON-able.

    Attributes
    ----------
    classes : list of str
        Genres in the order of the logits. Never taken from a folder listing again.
    model : dict
        The arguments of `models.build`, less `n_classes`.
    frames : list of dict
        For `RemoveBorder`.
    render : dict or None
        How the train pictures were drawn, from their text chunks; None for other programs' pictures.
    seconds : float
        Length of track that a train picture spans.
    window : float or None
        Seconds that the network takes at once; None is a whole track.
    drawn : list of 2 int, or None
        Width and height at which another program drew the train pictures. Ours and audio are
        drawn so too before they are resized: the network notices how columns and rows were dropped
        or repeated.
    about : dict
        Run settings, versions, the kept epoch: for people, not for predicting.
    """

    classes: list
    model: dict
    frames: list = field(default_factory=list)
    render: dict | None = None
    seconds: float = 30.0
    window: float | None = None
    drawn: list | None = None
    about: dict = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values):
        """Return the recipe that a file holds, which may have come from anywhere.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            When it is none of ours; the message says which part.
        """
        recipe = cls(**values)
        shortest, longest = LENGTHS
        names = recipe.classes if isinstance(recipe.classes, list) else []
        rules = {
            "classes": names and all(isinstance(name, str) for name in names),
            "seconds": shortest <= recipe.seconds <= longest,
            "window": recipe.window is None or shortest <= recipe.window <= longest,
            "drawn": not recipe.drawn or 0 < min(recipe.drawn) <= max(recipe.drawn) < LARGEST,
            "size": type(recipe.size) is int and 0 < recipe.size < LARGEST,
            "channels": recipe.channels in (1, 3),
            "texture": type(recipe.model.get("texture")) is int and 0 <= recipe.model["texture"] <= LARGEST,
            "about": isinstance(recipe.about, dict),
        }
        for name, good in rules.items():
            if not good:
                raise ValueError(name)
        for frame in recipe.frames:
            edges = [*frame["size"], *frame["colour"], frame["top"], frame["bottom"], frame["left"], frame["count"]]
            if not all(type(value) is int for value in edges + list(frame["rights"])):
                raise ValueError("frames")
        Settings.from_dict(recipe.render or {})
        return recipe

    @property
    def size(self):
        """Height and width of the network's input, in pixels."""
        return self.model["size"]

    @property
    def channels(self):
        """1 for levels, 3 for colours."""
        return self.model["channels"]

    def width(self, seconds):
        """Pixels that so many seconds take, at the network's `size`."""
        if self.window:
            return max(1, round(self.size * seconds / self.window))
        # Whole tracks are made `size` wide; of a much longer one, each piece as long as those.
        return self.size * max(1, round(seconds / self.seconds))

    def remove_border(self):
        """Return the margin remover as it was fitted."""
        return RemoveBorder(self.frames)
