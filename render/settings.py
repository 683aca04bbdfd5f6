"""The settings of a picture: defaults and ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from render.errors import ParameterError

#: Windows that can be chosen, by their names in scipy.
WINDOWS = ("hann", "hamming", "blackman", "blackmanharris", "bartlett", "boxcar", "cosine", "nuttall", "triang")

#: Settings by the name of what they are for. musicnn: the input of the pretrained network of that name, so that a
#: picture holds all that it takes of the audio (`vision.models.musicnn`).
PRESETS: dict[str, dict[str, Any]] = {
    "musicnn": {"sr": 16000, "n_fft": 512, "hop_length": 256, "n_mels": 96, "ref": 400.0, "top_db": 90.0},
}


@dataclass(frozen=True)
class Settings:
    """How a picture is made from audio. Every field is a flag of ``python -m render``.

    Attributes
    ----------
    kind : str
        ``"mel"``, or ``"features"``: see `feature_picture`.
    style : str
        ``"pixels"``: one pixel a band and frame; or ``"figure"``: with axes, for people; see `figure`.
    sr : int, in Hz
        Audio is resampled to this rate.
    n_fft : int
        Length of the FFT in samples.
    hop_length : int
        Samples from one frame to the next.
    win_length : int or None
        Length of the window, padded with zeros to `n_fft`; None is `n_fft`.
    window : str
        One of `WINDOWS`.
    n_mels : int
        Mel bands, with Slaney's normalisation.
    fmin, fmax : float, in Hz
        Lowest and highest frequency; `fmax` None means ``sr / 2``.
    htk : bool
        Use HTK's Mel scale instead of Slaney's.
    power : float
        Exponent of the magnitude: 2 for power, 1 for amplitude.
    ref : float or "max"
        The value that becomes 0 dB: "max" is the track's own peak; values above a fixed one are clipped.
    top_db : float, in dB
        Dynamic range below `ref`; what is quieter is clipped.
    offset : float, in seconds
        Where in the track the picture starts.
    duration : float, in seconds, or None
        Length of the part that is drawn; None draws all.

    Raises
    ------
    ParameterError
        When a value is out of its range or of another type.
    """

    kind: str = "mel"
    style: str = "pixels"
    sr: int = 22050
    n_fft: int = 2048
    hop_length: int = 512
    win_length: int | None = None
    window: str = "hann"
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    power: float = 2.0
    ref: float | str = "max"
    top_db: float = 80.0
    offset: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        for name in ("sr", "n_fft", "hop_length", "win_length", "n_mels"):
            if type(getattr(self, name)) is not int and (name, self.win_length) != ("win_length", None):
                raise ParameterError(name, getattr(self, name), "a whole number")
        nyquist = self.sr / 2
        fmax = nyquist if self.fmax is None else self.fmax
        ref: Any = 1.0 if self.ref == "max" else self.ref
        features = self.kind == "features"
        rules = [
            ("kind", self.kind in ("mel", "features"), "mel or features"),
            ("style", self.style in ("pixels", "figure"), "pixels or figure"),
            ("sr", self.sr >= 16000 or not features, "16000 Hz or more for kind features"),
            ("n_mels", self.n_mels >= 20 or not features, "20 or more for kind features"),
            ("sr", 1000 <= self.sr <= 768000, "from 1000 to 768000 Hz"),
            ("n_fft", 16 <= self.n_fft <= 1 << 20, "from 16 to 1048576 samples"),
            ("hop_length", 1 <= self.hop_length <= self.n_fft, f"from 1 to n_fft ({self.n_fft})"),
            ("win_length", self.win_length is None or 2 <= self.win_length <= self.n_fft, f"from 2 to {self.n_fft}"),
            ("window", self.window in WINDOWS, f"one of {', '.join(WINDOWS)}"),
            ("power", 0.1 <= self.power <= 4, "from 0.1 to 4"),
            ("ref", type(ref) in (int, float) and 0 < ref < 1e30, "max, or above 0"),
            ("n_mels", 1 <= self.n_mels <= 2048, "from 1 to 2048"),
            ("fmax", 0 < fmax <= nyquist, f"from above 0 to sr / 2 ({nyquist:g} Hz)"),
            ("fmin", 0 <= self.fmin < fmax, f"from 0 to below fmax ({fmax:g} Hz)"),
            ("top_db", 1 <= self.top_db <= 300, "from 1 to 300 dB"),
            ("offset", 0 <= self.offset <= 1e7, "from 0 to 1e7 s"),
            ("duration", self.duration is None or 0 < self.duration <= 1e7, "from above 0 to 1e7 s"),
        ]
        for name, good, expected in rules:
            if not good:  # also NaN, which compares false with everything
                raise ParameterError(name, getattr(self, name), expected)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON-able dict, as a picture's text chunk holds them."""
        return dict(vars(self))  # dataclasses.asdict makes deep copies and takes 30 times as long

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings in a picture's text chunk; keys that are no setting are ignored.

        Raises
        ------
        ParameterError, TypeError
            When a value is out of its range or of another type.
        """
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})
