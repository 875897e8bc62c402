"""Pictures: equal input gives equal bytes, they are small, their text is text, and a name cannot break out of it."""

from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from assets import figures
from assets.drawing import CSS_NAMES
from assets.report_html import STYLE
from wavecore import stages
from wavecore.judge.significance import Comparison

BANDS = ("A2", "D2", "D1")
HOSTILE = '<b>"x" $y_1$ & 0.123456 id="z"</b>'


def _comparison(stage: str, low: float, high: float, verdict: str) -> Comparison:
    middle = (low + high) / 2
    return Comparison(stage, "base", middle, 0.1, low, high, 1.0, 0.5, 0.5, 0.1, 90, False, verdict)  # type: ignore[arg-type]


def _drawings() -> dict[str, figures.Drawing]:
    time = np.arange(96)
    wave = np.sin(time / 4)
    stamps = np.datetime64("2024-01-01", "us") + np.arange(3000) * np.timedelta64(1, "h")
    values = np.stack([np.sin(np.arange(3000) / 9), np.cos(np.arange(3000.0))], axis=-1)
    values[-1, 1] = np.nan
    names = ("load", HOSTILE)
    window = figures.Forecast(HOSTILE, wave[:48], wave[48:], {"seasonal_naive": wave[48:] + 0.1, "dlinear": wave[:48]})
    curve = [{"step": s, "loss": 1 / s, "select": 1 / s + s / 500} for s in range(10, 110, 10)]
    return {
        "series": figures.series_overview(
            stamps, names, values, {"train": (0, 2000), "select": (2000, 2300), "test": (2300, 3000)}
        ),
        "unshaded": figures.series_overview(stamps[:100], names, values[:100], {}),
        "forecasts": figures.forecasts([window, window, window], ["seasonal_naive", "dlinear"], "kW", columns=2),
        "no_history": figures.forecasts([figures.Forecast("x", wave[:0], wave, {"own": wave})], ["own"]),
        "curves": figures.training_curves({0: curve, 1: [], 2: curve}, "dlinear"),
        "step": figures.error_by_step({"seasonal_naive": wave**2, "dlinear": wave**2 / 2}),
        "scale": figures.error_by_scale({"a": np.ones(3), "b": np.ones(3)}, BANDS, np.array([0.5, 0.3, 0.2])),
        "scale_alone": figures.error_by_scale({"a": np.ones(3)}, BANDS),
        "intervals": figures.intervals(
            [
                _comparison("better", -0.3, -0.1, "better"),
                _comparison(HOSTILE, 0.1, 0.3, "worse"),
                _comparison("untested", math.nan, math.nan, "no difference shown"),
            ]
        ),
        "energy": figures.energy_by_channel(names, BANDS, np.array([[0.5, 0.3, 0.2]] * 2)),
        "many_bands": figures.energy_by_channel(("load",), [f"D{i}" for i in range(10)], np.full((1, 10), 0.1)),
    }


@pytest.fixture(scope="module")
def drawings() -> dict[str, figures.Drawing]:
    return _drawings()


def test_equal_input_gives_equal_bytes(drawings: dict[str, figures.Drawing]) -> None:
    for name, again in _drawings().items():
        first = drawings[name]
        assert first.png() == again.png() == first.png()
        assert first.svg(name) == again.svg(name) == first.svg(name)


def test_a_png_for_markdown_is_small_and_whole(drawings: dict[str, figures.Drawing]) -> None:
    for drawing in drawings.values():
        text = drawing.markdown("two [channels]\n(load)")
        match = re.fullmatch(r"!\[two  channels   load \]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
        assert match
        data = base64.b64decode(match[1])
        assert data.startswith(b"\x89PNG")
        assert len(data) <= 60_000
    assert len(drawings["series"].markdown("x", limit=9_000)) < 12_100


def test_an_svg_stands_alone_and_follows_the_page(drawings: dict[str, figures.Drawing]) -> None:
    for name, drawing in drawings.items():
        svg = drawing.svg(name)
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg"
        assert root.get("viewBox")
        assert root.get("height") is None
        assert "http" not in svg
        assert "<style" not in svg
        assert "var(--" in svg
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))


def test_ids_differ_between_pictures_of_a_page(drawings: dict[str, figures.Drawing]) -> None:
    def ids(svg: str) -> set[str]:
        return set(re.findall(r'\sid="([^"]+)"', svg))

    one, two = ids(drawings["curves"].svg("one")), ids(drawings["curves"].svg("two"))
    assert one
    assert not one & two


def test_labels_are_kept_to_the_letter(drawings: dict[str, figures.Drawing]) -> None:
    labels = ["".join(e.itertext()) for e in ElementTree.fromstring(drawings["forecasts"].svg("x")).iter("text")]
    assert labels.count(HOSTILE) == 3
    assert {"truth", "seasonal_naive", "dlinear", "kW"} <= set(labels)
    labels = ["".join(e.itertext()) for e in ElementTree.fromstring(drawings["intervals"].svg("x")).iter("text")]
    assert f"{HOSTILE} − base" in labels
    assert "untested − base" in labels
    ticks = [float(label.replace("−", "-")) for label in labels if re.fullmatch(r"−?[\d.]+", label)]
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])  # not rounded on the way
    assert 0.0 in ticks


def test_a_stage_has_one_colour_everywhere() -> None:
    alone, both = figures.stage_colours(["dlinear"]), figures.stage_colours(["seasonal_naive", "dlinear"])
    assert alone["dlinear"] == both["dlinear"] != both["seasonal_naive"]


def test_no_two_stages_share_a_colour() -> None:
    names = stages.names()
    assert len(set(figures.stage_colours(names).values())) == len(names) > 30
    # The page has each colour of its pictures twice: for light and for dark.
    for name in CSS_NAMES.values():
        assert STYLE.count(f"--{name}:#") == 2, name


def test_a_gap_is_left_blank_and_no_peak_is_lost() -> None:
    values = np.zeros(5000)
    values[1234] = 99.0
    values[2000:2600] = np.nan
    stamps = np.datetime64("2024-01-01", "us") + np.arange(5000) * np.timedelta64(1, "h")
    (axis,) = figures.series_overview(stamps, ("a",), values[:, None], {}).figure.axes
    (drawn,) = axis.collections
    heights = [np.asarray(path.vertices)[:, 1].max() for path in drawn.get_paths()]
    assert max(heights) == 99.0
    assert len(drawn.get_paths()) == 2
