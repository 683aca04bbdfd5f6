"""From which probability on an answer is given, and what counts as unlike the training music."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

#: The share of held-out dev tracks that pass as music like that of training.
PASSED = 0.95

#: With fewer dev tracks there are no thresholds: the 95th percentile of 20 is the second highest.
LEAST = 20

#: Weight of the answer's entropy beside the distance. Speech, noise and tones are told by distance alone; a genre that
#: was not trained on is often near others, and then the answer is undecided. See docs/recipe.md.
ENTROPY_WEIGHT = 0.75


@dataclass
class Thresholds:
    """What a model says of its answers beside the genre. JSON-able.

    Attributes
    ----------
    unsure_below : float, in [0, 1]
        Answers of a lower probability are unsure; 0 where none are.
    limit : float or None
        Tracks of a higher `novelty` are unlike the training music; None where nothing is known of that.
    distance, entropy : (float, float)
        Mean and standard deviation over dev tracks: of the logarithm of their distance from the train windows, see
        `TextureSpace.distance`, and of the entropy of their probabilities.
    """

    unsure_below: float = 0.0
    limit: float | None = None
    distance: tuple[float, float] = (0.0, 1.0)
    entropy: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Thresholds":
        """Return the thresholds that a file holds, which may have come from anywhere.

        Raises
        ------
        ValueError, TypeError
            When they are none.
        """
        pairs = {name: tuple(float(value) for value in values[name]) for name in ("distance", "entropy")}
        limit = None if values["limit"] is None else float(values["limit"])
        numbers = [values["unsure_below"], limit or 0.0, *pairs["distance"], *pairs["entropy"]]
        if not (np.isfinite(numbers).all() and all(len(pair) == 2 and pair[1] > 0 for pair in pairs.values())):
            raise ValueError("thresholds")
        return cls(float(values["unsure_below"]), limit, **pairs)  # type: ignore[arg-type]  # of two numbers each

    def novelty(self, distance: ArrayLike, p: ArrayLike) -> np.ndarray:
        """How unlike the training music tracks are: how far, plus how undecided, in standard deviations of dev tracks.

        Parameters
        ----------
        distance : array_like, shape (n,)
            From `TextureSpace.distance`: the mean over a track's windows.
        p : array_like, shape (n, n_classes)
            Probabilities.

        Returns
        -------
        novelty : np.ndarray, shape (n,)
        """
        far, undecided = np.log(np.maximum(distance, 1e-9)), entropy(p)
        (far_mean, far_std), (undecided_mean, undecided_std) = self.distance, self.entropy
        return (far - far_mean) / far_std + ENTROPY_WEIGHT * (undecided - undecided_mean) / undecided_std


def entropy(p: ArrayLike) -> np.ndarray:
    """Entropy of probabilities, (n, n_classes), in nats: 0 where one genre is certain."""
    p = np.asarray(p, np.float64)
    return -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)


def fit_thresholds(y: ArrayLike, p: ArrayLike, distance: ArrayLike | None) -> Thresholds:
    """Learn the thresholds from tracks that the model was not trained on.

    Parameters
    ----------
    y : array_like, shape (n,), int
        Labels.
    p : array_like, shape (n, n_classes)
        Calibrated probabilities.
    distance : array_like, shape (n,), or None
        As of `Thresholds.novelty`; None where the model has none.

    Returns
    -------
    thresholds : Thresholds
        An answer is unsure where answers of its probability are wrong more often than right, by isotonic regression
        (Zadrozny and Elkan, 2002). All of it says nothing where there are fewer than `LEAST` tracks.
    """
    from sklearn.isotonic import IsotonicRegression

    y, p = np.asarray(y), np.asarray(p, np.float64)
    if len(y) < LEAST:
        return Thresholds()
    best = p.max(axis=1)
    right = IsotonicRegression(out_of_bounds="clip").fit(best, p.argmax(axis=1) == y).predict(np.sort(best))
    enough = np.sort(best)[right >= 0.5]
    unsure_below = 0.0 if right[0] >= 0.5 else float(enough[0]) if len(enough) else 1.0
    if distance is None:
        return Thresholds(unsure_below)
    pairs = [(float(v.mean()), float(max(v.std(), 1e-6))) for v in (np.log(np.maximum(distance, 1e-9)), entropy(p))]
    thresholds = Thresholds(unsure_below, None, *pairs)
    thresholds.limit = float(np.quantile(thresholds.novelty(distance, p), PASSED))
    return thresholds
