"""The report from made-up values: whole, self-contained, escaped, and with the numbers it was given."""

from __future__ import annotations

import dataclasses
import html
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from assets import report_page
from assets.figures import Forecast
from assets.lineage_graph import graph, layers, shortest
from assets.report_data import (
    Artifact,
    BenchmarkReport,
    ChannelError,
    ColumnSource,
    DatasetReport,
    ReportData,
    SeedResult,
    StageResult,
)
from assets.report_html import number
from assets.report_page import render
from wavecore.judge.significance import Comparison
from wavecore.series.arrays import from_values

HOSTILE = '<img src="http://evil.test/x.png" onerror=\'alert(1)\'>"$&'
VOID = {"meta", "br", "img", "hr", "input", "link"}
EDGES = (
    ("raw_series", "series"), ("series", "windows"), ("windows", "wavelet_coefficients"), ("series", "splits"),
    ("windows", "prompt_statistics"), ("wavelet_coefficients", "prompt_statistics"), ("series", "model"),
    ("splits", "model"), ("model", "evaluation"), ("splits", "evaluation"), ("evaluation", "leaderboard"),
    ("leaderboard", "report"),
)  # fmt: skip
BANDS = ("A4", "D4", "D3", "D2", "D1")


def comparison(**change: Any) -> Comparison:
    values: dict[str, Any] = {
        "stage": "dlinear", "other": "seasonal_naive", "effect": -0.13987, "relative": -0.2732, "low": -0.1699,
        "high": -0.1101, "statistic": -6.1, "p": 1e-6, "p_holm": 0.0002, "detectable": 0.0411, "n_origins": 2785,
        "significant": True, "verdict": "better",
    }  # fmt: skip
    return Comparison(**values | change)


def sample(channels: tuple[str, ...] = ("HUFL", "OT"), generated: bool = False, horizon: int = 96) -> ReportData:
    """A report like a real one, from made-up values."""
    generator = np.random.default_rng(5)
    time = np.arange(-horizon, horizon)

    def errors(scale: float) -> tuple[ChannelError, ...]:
        return tuple(ChannelError(c, 0.3 * scale, 0.4 * scale, 12.25 * scale, 2.75 * scale) for c in channels)

    steps = np.arange(1, horizon + 1)
    naive = StageResult(
        "seasonal_naive", "The value one season ago, repeated: what any model must beat.",
        (SeedResult(0, 0.51217, 0.43318, 1.0429),), 19_495,
        by_step=(0.42 + 0.06 * np.sin(steps / 4) + steps / 900).tolist(), by_scale=(0.9, 0.62, 0.41, 0.3, 0.21),
        channels=errors(1.2),
    )  # fmt: skip
    curve = [
        {"step": s, "loss": 0.35 + 0.5 * math.exp(-s / 150), "select": 0.41 + 0.4 * math.exp(-s / 120) + s / 40_000}
        for s in range(50, 1050, 50)
    ]
    dlinear = StageResult(
        "dlinear", "Trend and remainder by a moving average, one linear map each (Zeng et al., AAAI 2023).",
        (SeedResult(0, 0.3711, 0.3942, 0.8812, 41.5), SeedResult(1, 0.3737, 0.3961, 0.8853, 43.5)), 19_495,
        comparison(), by_step=(0.29 + steps / 700).tolist(), by_scale=(0.66, 0.45, 0.3, 0.24, 0.2),
        curves={0: curve, 1: [row | {"select": row["select"] + 0.01} for row in curve]}, channels=errors(1.0),
    )  # fmt: skip

    def window(i: int) -> Forecast:
        wave = np.sin(2 * np.pi * (time + 5 * i) / 24) + 0.2 * generator.normal(size=len(time))
        ahead = {"seasonal_naive": wave[:horizon], "dlinear": 0.9 * np.sin(2 * np.pi * (time[horizon:] + 5 * i) / 24)}
        name = channels[i % len(channels)]
        return Forecast(f"{name}, from 2018-01-{i + 3:02d} 00:00", wave[:horizon], wave[horizon:], ahead)

    rows = 17_420
    stamps = np.datetime64("2016-07-01", "us") + np.arange(rows) * np.timedelta64(1, "h")
    walks = generator.normal(size=(rows, len(channels))).cumsum(axis=0) / 9
    walks[5000:5600, 0] = np.nan
    series = from_values(stamps, channels, walks)
    benchmark = BenchmarkReport(
        "etth1_96", "etth1", "ETTh1", 512, 96, "1h", generated, (naive, dlinear), (comparison(),), BANDS,
        (0.55, 0.25, 0.1, 0.06, 0.04), tuple(window(i) for i in range(4)), "original unit",
    )  # fmt: skip
    dataset = DatasetReport(
        "etth1", "ETTh1", "Hourly load and oil temperature of an electricity transformer.", generated,
        "forecasting/ETT-small/ETTh1.csv", "https://example.org/ETTh1.csv", "CC BY-ND 4.0",
        "No derived copies in a public remote.", rows, len(channels), 3, "1h", "2016-07-01 00:00", "2018-06-26 19:00",
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", series,
        {"train": (0, 8640), "select": (8640, 10080), "decide": (10080, 11520), "test": (11520, 14400)},
    )  # fmt: skip
    keys = {
        "raw_series": ["etth1"], "series": ["etth1"], "windows": ["etth1.T512"], "wavelet_coefficients": ["etth1.T512"],
        "prompt_statistics": ["etth1.T512"], "splits": ["etth1_96"],
        "model": ["etth1_96|seasonal_naive", "etth1_96|dlinear"],
        "evaluation": ["etth1_96|seasonal_naive", "etth1_96|dlinear"],
    }  # fmt: skip
    artifacts = [
        Artifact(a, p, f"{generator.integers(2**62):016x}{i:016x}.dir") for i, a in enumerate(keys) for p in keys[a]
    ]
    return ReportData(
        "Forecasts, judged",
        "Every forecaster of this project on the same test windows, from the raw file to the verdict.",
        (benchmark,),
        (dataset,),
        (*artifacts, Artifact("leaderboard", "all", None)),
        EDGES,
        (
            ColumnSource("windows", "mean", (("series", "value"),)),
            ColumnSource("prompt_statistics", "median", (("windows", "median"), ("windows", "mean"))),
        ),
        (("make demo", "from a fresh clone to this page"), ("dvc repro", "again; nothing to do if nothing changed")),
        {"torch": "2.13.0", "device": "cpu"},
    )


class Page(HTMLParser):
    """Every tag with its attributes, and the text; complains about tags that do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def source() -> str:
    return render(sample())


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_section_is_there(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {"benchmark-0", "data", "lineage", "reproduce"} <= ids
    for heading in (
        "Forecasts, judged", "Leaderboard", "Differences and their intervals", "Error per wavelet scale",
        "Error per horizon step", "Training of dlinear", "Forecasts against the truth", "Errors in original units",
        "Data", "Lineage", "Column lineage", "How to make this again",
    ):  # fmt: skip
        assert heading in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 4 + 4 + 1 + 1
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {t.removeprefix("#") for t in targets if t and t.startswith("#")} <= ids
    assert len([i for i in ids if i]) == len([a for _, a in page.tags if a.get("id")])


def test_nothing_is_loaded_from_anywhere(source: str, page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "poster", "action", "data", "xlink:href"):
            assert name not in attributes, (tag, name)
        if "href" in attributes and tag != "a":
            assert (attributes["href"] or "").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        assert all("//" not in u for u in re.findall(r"url\(([^)]*)\)", " ".join(v or "" for v in attributes.values())))
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in source
    assert re.findall(r"https?://[^\s\"<]+", source) == ["https://example.org/ETTh1.csv"] * 2


def test_the_numbers_are_the_ones_given(page: Page) -> None:
    for shown in (
        "0.5122", "0.4332", "1.0429", "0.3724", "± 0.0018", "−0.1399", "[−0.1699, −0.1101]", "< 0.001", "0.0411",
        "19,495", "42.5 s", "12.2500", "2.7500", "14.7000", "17,420 steps of 1h × 2 channels, 3 values missing",
        "It is better than seasonal_naive by 27% (p < 0.001).", "95% block-bootstrap",
    ):  # fmt: skip
        assert shown in page.text, shown
    exact = {attributes.get("title") for tag, attributes in page.tags if tag == "span"}
    assert {"0.51217", "-0.13987", "0.0002", "0.0411"} <= exact
    assert "▼ better" in page.text


def test_every_hash_is_there_in_full_and_in_short(page: Page) -> None:
    artifacts = sample().artifacts
    for artifact in artifacts[:-1]:
        assert artifact.hash
        assert artifact.hash in page.text
        assert f" {artifact.hash[:7]} " in page.text
    assert "not committed" in page.text
    assert "series.value" in page.text
    assert sample().datasets[0].sha256 in page.text


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("worse", "▲ worse than seasonal_naive"), ("no difference shown", "● no difference shown to seasonal_naive")],
)
def test_the_verdict_is_in_words(verdict: str, words: str) -> None:
    report = sample()
    benchmark = report.benchmarks[0]
    judged = dataclasses.replace(benchmark.stages[1], comparison=comparison(verdict=verdict, p_holm=0.42))
    text = Page(render(_with(report, stages=(benchmark.stages[0], judged)))).text
    assert words in text
    assert "0.420" in text
    if verdict != "worse":
        assert "No difference to seasonal_naive is shown (p = 0.420)." in text


def test_a_pair_without_a_test_says_why() -> None:
    untested = comparison(
        low=math.nan, high=math.nan, p=math.nan, p_holm=math.nan, detectable=math.nan, significant=False,
        verdict="no difference shown", reason="too few test windows for this horizon",
    )  # fmt: skip
    report = sample()
    judged = dataclasses.replace(report.benchmarks[0].stages[1], comparison=untested)
    text = Page(render(_with(report, stages=(report.benchmarks[0].stages[0], judged), comparisons=(untested,)))).text
    assert "too few test windows for this horizon" in text
    assert "nan" not in text.lower().replace("lineage", "")


def test_markup_in_names_stays_text() -> None:
    report = sample((HOSTILE, "OT"))
    benchmark = dataclasses.replace(report.benchmarks[0], name=HOSTILE, title=HOSTILE, unit=HOSTILE)
    dataset = dataclasses.replace(
        report.datasets[0],
        title=HOSTILE,
        description=HOSTILE,
        source=HOSTILE,
        licence=HOSTILE,
        url="javascript:alert(1)",
    )
    report = dataclasses.replace(
        report, title=HOSTILE, about=HOSTILE, benchmarks=(benchmark,), datasets=(dataset,),
        artifacts=(*report.artifacts, Artifact(HOSTILE, HOSTILE, HOSTILE)),
        columns=(ColumnSource(HOSTILE, HOSTILE, ((HOSTILE, HOSTILE),)),), commands=((HOSTILE, HOSTILE),),
        facts={HOSTILE: HOSTILE},
    )  # fmt: skip
    source = render(report)
    page = Page(source)
    assert not any(tag in ("img", "script") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any((a.get("href") or "").startswith("javascript") for _, a in page.tags)
    assert HOSTILE in page.text
    assert html.escape(HOSTILE) in source


def test_generated_data_are_named_as_such(page: Page) -> None:
    assert "generated data" not in page.text
    text = Page(render(sample(generated=True))).text
    assert text.count("generated data") == 2  # at the benchmark and at the dataset
    assert "generated: forecasting" in text


def test_an_empty_report_is_still_a_page() -> None:
    bare = BenchmarkReport("demo", "demo", "Demo", 96, 24, "1h", True, ())
    text = Page(render(ReportData("Empty", "Nothing yet.", (bare,)))).text
    assert "No stage has been scored yet." in text
    unscored = StageResult("dlinear", "", (SeedResult(0, math.nan, math.nan),), 0)
    assert Page(render(ReportData("Empty", "", (dataclasses.replace(bare, stages=(unscored,)),))))


def test_equal_values_give_an_equal_page(source: str) -> None:
    assert render(sample()) == source


def test_layers_go_from_the_source_on() -> None:
    names = list(dict.fromkeys(n for edge in EDGES for n in edge))
    found = layers(names, EDGES)
    depth = {name: i for i, layer in enumerate(found) for name in layer}
    assert all(depth[a] < depth[b] for a, b in EDGES)
    assert sorted(depth) == sorted(names)
    with pytest.raises(ValueError, match="circle"):
        layers(["a", "b"], [("a", "b"), ("b", "a")])


def test_only_edges_that_no_longer_way_implies_are_drawn() -> None:
    names = list(dict.fromkeys(n for edge in EDGES for n in edge))
    drawn = shortest(names, EDGES)
    assert set(EDGES) - set(drawn) == {
        ("windows", "prompt_statistics"), ("series", "model"), ("splits", "evaluation"),
    }  # fmt: skip
    svg = graph([Artifact("series", f"d{i}", f"{i:032x}") for i in range(5)], EDGES)
    assert svg.count("marker-end") == len(drawn)
    assert "and 2 more" in svg


def _with(report: ReportData, **change: Any) -> ReportData:
    return dataclasses.replace(report, benchmarks=(dataclasses.replace(report.benchmarks[0], **change),))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.25, "0.2500"),
        (-0.0131, "−0.0131"),
        (0.00094342, "0.00094"),
        (12345.678, "1.235e+04"),
        (0.0, "0.0000"),
        (math.nan, "–"),
    ],
)
def test_numbers_of_every_size_take_little_room(value: float, shown: str) -> None:
    assert number(value) == shown


def test_of_many_pairs_those_to_the_stage_below_and_to_the_baselines_are_drawn() -> None:
    report = sample()
    names = [*(f"s{i}" for i in range(11)), "s10.variant"]
    below = {name: comparison(stage=name, other=names[i - 1]) for i, name in enumerate(names) if i}
    stages = tuple(dataclasses.replace(report.benchmarks[0].stages[1], stage=n, comparison=below.get(n)) for n in names)
    pairs = [comparison(stage=n, other=o) for i, n in enumerate(names) for o in [*names[:i], "base", "dlinear"]]
    found = Page(render(_with(report, stages=stages, comparisons=tuple(pairs)))).text
    for pair in pairs:
        stage_alone = "." not in pair.stage
        kept = (stage_alone and pair.other in ("base", "dlinear")) or below.get(pair.stage) == pair
        assert (f"{pair.stage} − {pair.other} " in found) == kept
    assert "wavecore compare has all pairs" in found.replace(" .", ".")
    few = Page(render(_with(report, stages=stages[:3], comparisons=tuple(pairs[:6])))).text
    assert all(f"{pair.stage} − {pair.other} " in few for pair in pairs[:6])
    assert "has all pairs" not in few


def test_what_ten_prototypes_hold_is_what_is_drawn() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(40), 5)
    look = {"entropy": 0.5, "prototypes": list(range(12))}
    said = report_page._spread(look, rows[:, :12].tolist())
    assert f"these 10 hold {100 * rows[:, :10].sum(axis=1).mean():.1f}% of it" in said
    assert "these 3 hold" in report_page._spread(look | {"prototypes": [4, 1, 7]}, rows[:, :3].tolist())


@pytest.mark.parametrize(
    ("seeds", "shown"), [([0], "0"), ([0, 1], "0, 1"), ([0, 1, 2], "0–2"), ([0, 2, 3], "0, 2, 3"), ([], "")]
)
def test_seeds_in_a_row_take_little_room(seeds: list[int], shown: str) -> None:
    assert report_page._seeds(seeds) == shown
