"""A window told in words: what the dataset is, what is asked, and facts about the window (R6, W1).

The fixed part is the same for every window of a benchmark. The facts are short pieces of text, the most telling first,
so that a token budget can drop the last ones and what is left still reads well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wavecore.config import FeatureSettings
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.statistics import circular_lags, statistics
from wavecore.series.durations import parse
from wavecore.wavelet import statistics as wavelet
from wavecore.wavelet.transform import band_period, bands

ETT = (
    "The electricity transformer temperature (ETT) tells how hot the oil of a transformer is, which matters when "
    "electric power is planned for the long term."
)
_UNITS = (("w", "weeks"), ("d", "days"), ("h", "hours"), ("m", "minutes"), ("s", "seconds"))
BURST_MARKS = 3


@dataclass(frozen=True)
class Subject:
    """What a prompt is about, beside the window.

    Attributes:
        description: of the dataset, for people and models to read.
        step: its time step, such as `1h`.
        window, horizon: T and H.
        features: how wavelet statistics are computed, and how many lags there are.
    """

    description: str
    step: str
    window: int
    horizon: int
    features: FeatureSettings


def fixed_text(subject: Subject, settings: PromptSettings) -> str:
    """What holds for every window: description and task."""
    description = subject.description if settings.description == "dataset" else ETT
    return (
        f"Dataset: {' '.join(description.split())} Task: forecast the next {subject.horizon} steps "
        f"from the last {subject.window} steps of {spoken(1, subject.step, 0)}."
    )


def facts(x: np.ndarray, subject: Subject, settings: PromptSettings) -> list[list[str]]:
    """Facts about each of the instance-normalized windows x [M, T], the most important first.

    Returns:
        per window a list of pieces, each to be joined to the one before as it is.
    """
    parts: list[list[list[str]]] = []
    if settings.statistics in ("time", "both"):
        parts.append(_time_facts(x, subject, settings))
    if settings.statistics in ("wavelet", "both"):
        parts.append(_wavelet_facts(x, subject, settings))
    found = []
    for i in range(len(x)):
        said = [fact for part in parts for fact in part[i]]
        found.append([f"{' Window:' if n == 0 else ','} {fact}" for n, fact in enumerate(said)])
    return found


def _number(settings: PromptSettings) -> Callable[[float], str]:
    if settings.digits == 0:
        # A float32 written out as Python writes it, up to 17 digits.
        return lambda value: repr(float(value))
    return lambda value: f"{value + 0.0:.{settings.digits}g}"


def _time_facts(x: np.ndarray, subject: Subject, settings: PromptSettings) -> list[list[str]]:
    number = _number(settings)
    told = statistics(x, subject.features.lags)
    lags = told["lags"] if settings.lags == "peaks" else circular_lags(x, subject.features.lags)
    found = []
    for i in range(len(x)):
        rise = told["trend"][i]
        said = [
            f"minimum {number(told['min'][i])}",
            f"maximum {number(told['max'][i])}",
            f"median {number(told['median'][i])}",
            f"trend {'upward' if rise > 0 else 'downward' if rise < 0 or not settings.flat else 'flat'}",
        ]
        # 0 stands where there are fewer peaks; in the circular form lag 0 is what the reference says.
        repeats = [str(lag) for lag in lags[i] if lag > 0 or settings.lags == "circular"]
        if repeats:
            said.append(f"repeats after {' '.join(repeats)} steps")
        found.append(said)
    return found


def _wavelet_facts(x: np.ndarray, subject: Subject, settings: PromptSettings) -> list[list[str]]:
    told = wavelet.statistics(x, subject.features, BURST_MARKS)
    names, step = bands(subject.features.levels), subject.step
    found = []
    for i in range(len(x)):
        period = float(told["dominant_period"][i])
        if period == 0:
            found.append(["no movement"])
            continue
        share = told["energy_share"][i]
        telling = [b for b in np.argsort(-share, kind="stable")[: settings.bands] if share[b] >= settings.band_share]
        spans = [f"{100 * share[b]:.0f}% {_span(names[b], subject)}" for b in telling]
        said = [f"main period {spoken(period, step)}"]
        said += [f"{'' if n else 'energy '}{span}" for n, span in enumerate(spans)]
        said.append(f"entropy {told['entropy'][i]:.2g}")
        marks = sorted(int(s) for s in told["burst_start"][i] if s >= 0)
        if marks:
            said.append(f"bursts at steps {' '.join(map(str, marks))}")
        found.append(said)
    return found


def _span(band: str, subject: Subject) -> str:
    """Which periods a band holds, in the series' own unit of time: an octave with its centre in parentheses."""
    shortest, longest, centre = band_period(band, subject.features.levels)
    if band.startswith("A"):
        return f"above {spoken(shortest, subject.step)}"
    low, high, middle = (_in_unit(steps, subject.step)[0] for steps in (shortest, longest, centre))
    return f"at {_plain(low)}-{_plain(high)} ({_plain(middle)})"


def spoken(steps: float, step: str, digits: int = 3) -> str:
    """A length of time in the unit of the series' step: 24 steps of `15m` are "360 minutes"; digits 0: exact."""
    value, unit = _in_unit(steps, step)
    text = _plain(value, digits) if digits else f"{value:g}"
    return f"{text} {unit[:-1] if text == '1' else unit}"


def _plain(value: float, digits: int = 3) -> str:
    """`digits` significant digits and never an exponent: 7680, not 7.68e+03."""
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")


def _in_unit(steps: float, step: str) -> tuple[float, str]:
    length = parse(step, "step")
    if length.months:
        return (steps * length.months / 12, "years") if length.months % 12 == 0 else (steps * length.months, "months")
    for mark, unit in _UNITS:
        one = parse(f"1{mark}", "step").microseconds
        if one and length.microseconds % one == 0:
            return steps * length.microseconds / one, unit
    return steps * length.microseconds / 1e6, "seconds"
