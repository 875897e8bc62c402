"""The report's part on learning online."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from assets.report_online import DRAWN, Learned, Memory, Pooling, drawn_of, errors, section

ROWS = [
    Learned("titan", learner, 3, r2, mse, 0.5, p, ms, [mse + 0.1 * (i % 3) for i in range(60)])
    for learner, r2, mse, p, ms in (
        ("frozen", 0.31, 0.52, None, 1.9), ("online", 0.42, 0.44, 0.0004, 9.9), ("elf", None, 0.61, 0.2, None),
    )
]  # fmt: skip


def seen(count: int = 2000) -> Memory:
    draw = np.random.default_rng(0)
    times = np.datetime64("2024-01-01T00", "us") + np.arange(count) * np.timedelta64(1, "h")
    told = {name: draw.random(count) for name in ("surprise", "error_surprise", "gate", "norm")}
    told["error_surprise"][-24:] = np.nan
    weights = draw.random((48, 6))
    pooling = Pooling(np.arange(22, 0, -4.0), weights / weights.sum(axis=1, keepdims=True), 0.9)
    return Memory("titan", 0, times, told, draw.random(count), {"a < storm": (times[100], times[160])}, pooling)


def test_nothing_where_no_stream_was_run() -> None:
    assert section([], None, "a") == ""


@pytest.mark.parametrize("memory", [None, seen()], ids=["no memory", "memory"])
def test_every_learner_has_a_row_and_pictures_are_whole(memory: Memory | None) -> None:
    page = section(ROWS, memory, "a")
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in page.split("<tr>")[2:]]
    rows = [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]
    assert rows == [
        ["titan", "frozen", "0.3100", "0.5200", "0.5000", "–", "1.90", "3"],
        ["titan", "online", "0.4200", "0.4400", "0.5000", "&lt; 0.001", "9.90", "3"],
        ["titan", "elf", "–", "0.6100", "0.5000", "0.200", "–", "3"],
    ]
    assert page.count("<svg") == (1 if memory is None else 3)
    if memory is not None:
        assert "48 windows over the test rows" in page
        assert "Evenness (entropy, 1 where they do): 0.9000" in page
        unpooled = section(ROWS, dataclasses.replace(memory, pooling=None), "a")
        assert unpooled.count("<svg") == 2
        assert "a &lt; storm" in page
    assert "a < storm" not in page


def test_the_picture_has_the_stages_with_the_lowest_error_and_says_of_how_many() -> None:
    pair = ROWS[:2]
    many = [dataclasses.replace(r, stage=f"s{i}", mse=1.0 - i / 20) for i in range(DRAWN + 3) for r in pair]
    drawn, count = drawn_of([*many, dataclasses.replace(ROWS[2], stage="s0"), dataclasses.replace(ROWS[0], mse=None)])
    assert count == DRAWN + 4
    assert list(dict.fromkeys(row.stage for row in drawn)) == [f"s{i}" for i in range(3, DRAWN + 3)]
    assert len(drawn) == 2 * DRAWN
    assert f"The {DRAWN} of {DRAWN + 3} stages" in section(many, None, "a")
    assert "with the lowest error" not in section(ROWS, None, "a")


def test_variants_of_one_stage_can_be_told_apart_in_one_picture() -> None:
    names = ("titan", "titan.mean", "titan.last_k", "titan.flatten")
    lines = errors([dataclasses.replace(row, stage=name) for name in names for row in ROWS[:2]]).figure.axes[0].lines
    colours = {
        str(line.get_label()).split(", ")[0]: to_rgb(line.get_color()) for line in lines if len(line.get_xdata()) > 1
    }
    assert len(set(colours.values())) == len(names)
    apart = [np.abs(np.subtract(a, b)).sum() for a in colours.values() for b in colours.values() if a != b]
    assert min(apart) > 0.4  # of the shades 0.02
