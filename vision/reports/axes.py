"""Ticks of a spectrogram's axes on a page: where along the axis, as a share, and what is written there."""

from render import figure
from render.settings import Settings

#: Frequencies that a page labels, in Hz; they are the same on all pages.
FREQUENCIES = {250: "250 Hz", 1000: "1 kHz", 4000: "4 kHz"}


def frequency_ticks(settings: Settings | None) -> list[tuple[float, str]]:
    """Ticks of the frequency axis, from 0 at the lower edge to 1 at the upper one.

    Parameters
    ----------
    settings : Settings or None
        How the picture was drawn; None, where that is unknown, gives the ends alone, as "low" and "high".
    """
    if settings is None or settings.kind != "mel":
        return [(0.04, "low"), (0.96, "high")]
    ticks = zip(*figure.frequency_ticks(settings, tuple(FREQUENCIES)), strict=True)
    return [((place + 0.5) / settings.n_mels, FREQUENCIES.get(round(hz), f"{hz:g} Hz")) for place, hz in ticks]


def second_ticks(seconds: float, start: float = 0.0) -> list[tuple[float, str]]:
    """Ticks of the time axis, from 0 at its left end to 1 at its right one: at most five round times and the end.

    Parameters
    ----------
    seconds : float
        How long the picture is.
    start : float, in seconds
        The time at its left end.
    """
    steps = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
    step = next((step for step in steps if seconds / step <= 5), seconds)
    times = [number * step for number in range(int(seconds / step) + 1) if number * step < seconds - 0.4 * step]
    return [(time / seconds, f"{start + time:g}") for time in times] + [(1.0, f"{start + seconds:.3g} s")]
