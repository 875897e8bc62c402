"""Rows of a bench as tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.figures_surface import surface as drawn
from pipelines.bench import _ladder, app
from pipelines.bench_table import epochs, machine, online, rates, read, stages, surface, variants
from wavecore.errors import StorageError

ROOT = Path(__file__).parents[2]


def test_what_a_stage_costs_is_one_line_per_stage_length_and_share() -> None:
    same = {"bench": "stages", "path": "only_sparse", "window": 512, "share": 0.5, "tokens": 32.0, "weights": 9876}
    infer = {**same, "work": "infer", "ratio_median": 2.0, "ratio_min": 1.6, "ratio_max": 2.5, "flops": 3.2e9}
    train = {**same, "work": "train", "ratio_median": 0.5, "ratio_min": 0.4, "ratio_max": 0.8, "peak_mb": 812.4}
    long = {"bench": "stages", "path": "tokens", "window": 16384, "stopped": "no position is left"}
    lines = stages([infer, train, long, {"bench": "kept"}])
    assert lines[2:] == [
        "| `only_sparse`, 50% kept | 512 | 32 | 9,876 | 0.50 (0.40 to 0.62) | 2.00 (1.25 to 2.50) | 3.2 | – | 812 |",
        "| `tokens` | 16,384 | – | – | no position is left | – | – | – | – |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_a_surface_is_one_line_per_length_and_share() -> None:
    same = {"bench": "surface", "benchmark": "etth1_96", "window": 1024, "other_mse": 0.4}
    first = {**same, "path": "base", "tokens": 128.0, "mse": 0.4, "ratio_median": 1.0, "ratio_min": 1.0}
    first |= {"ratio_max": 1.0, "train_seconds": 300.4, "infer_mb": 600.2, "train_mb": 900.0}
    half = {**same, "path": "only_sparse", "share": 0.5, "tokens": 64.0, "mse": 0.41, "ratio_median": 1.9}
    half |= {"ratio_min": 1.8, "ratio_max": 2.1, "train_seconds": 200.0, "infer_mb": "–", "train_mb": 700.0}
    lines = surface([first, half, {"bench": "kept"}])
    assert lines[2:] == [
        "| etth1_96 | 1,024 | `base` | 128 | 0.4000 | +0.0% | 1.00 (1.00 to 1.00) | 300 | 600 | 900 |",
        "| etth1_96 | 1,024 | `only_sparse`, 50% kept | 64 | 0.4100 | +2.5% | 1.90 (1.80 to 2.10) | 200 | – | 700 |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_what_a_variant_costs_is_one_line() -> None:
    row = {"bench": "variants", "path": "titan.every_4", "weights": 87153, "forecast_ms": 1.77, "row_ms": 5.47}
    row |= {"ratio_median": 2.0, "ratio_min": 1.6, "ratio_max": 2.5, "train_ms": 135.4, "saved_mb": 45.7}
    lines = variants([row, {"bench": "kept"}])
    assert lines[2:] == ["| `titan.every_4` | 87,153 | 1.8 | 5.5 | 0.50 (0.40 to 0.62) | 135 | 46 |"]
    assert len({line.count("|") for line in lines}) == 1


def test_what_a_row_of_a_stream_costs_and_whether_steps_grow_are_a_table_each() -> None:
    same = {"bench": "online", "threads": 2, "seconds": 0.00231}
    plain = {**same, "path": "titan, forecast alone", "ratio_median": None}
    learning = {**same, "path": "titan, online", "ratio_median": 0.25, "ratio_min": 0.2, "ratio_max": 0.5}
    step = {**same, "path": "titan, training step", "ratio_median": None, "epochs": 30}
    step |= {"drift": -0.12, "low": -0.23, "high": 0.031}
    rows = [plain, learning, step, {"bench": "kept"}]
    assert online(rows)[2:] == [
        "| titan, forecast alone | 2 | 2.31 | 1 |",
        "| titan, online | 2 | 2.31 | 4.00 (2.00 to 5.00) |",
    ]
    assert epochs(rows)[2:] == ["| titan, training step | 2 | 2 | 30 | -12.0% (-23.0 to +3.1%) |"]


def test_errors_over_rates_are_a_line_per_learner() -> None:
    same = {"bench": "rates", "benchmark": "tiny", "stage": "dlinear", "seed": 0}
    errors = [
        ("frozen", None, 0.3),
        ("online", 1e-5, 0.25),
        ("online", 1e-3, 0.2504),
        ("replay", 1e-5, 0.2),
        ("replay", 1e-3, None),
    ]
    assert rates([{**same, "path": path, "rate": rate, "mse": mse} for path, rate, mse in errors]) == [
        "| benchmark | stage | learner | no rate | 1e-05 | 0.001 |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| tiny | `dlinear` | frozen | **0.300** |  |  |",
        "| tiny | `dlinear` | online |  | **0.250** | 0.250 |",
        "| tiny | `dlinear` | replay |  | **0.200** | not finite |",
    ]


def _rows(stage: str = "only_sparse", seed: int = 0, **more: object) -> list[dict[str, object]]:
    """Two lengths, all tokens and two shares of them each."""
    same = {"bench": "surface", "benchmark": "etth1_96", "seed": seed, **more}
    return [
        {**same, "path": stage if share else "base", **({"share": share} if share else {}), "window": window,
         "mse": window / 5000 + (share or 1), "seconds": 2.0, "train_seconds": 9.0, "train_mb": 500.0}
        for window in (2048, 1024) for share in (0.5, None, 0.25)
    ]  # fmt: skip


def test_the_picture_of_a_surface_has_a_line_per_length_over_all_shares() -> None:
    rows = _rows()
    rows[0]["train_mb"] = "too large"  # a peak that could not be measured has no point
    figure = drawn([*rows, {"bench": "kept"}], "surface.jsonl").figure
    error, *_, memory = figure.axes
    assert [line.get_label() for line in error.lines] == ["T = 1,024", "T = 2,048"]
    for line, window in zip(error.lines, (1024, 2048), strict=True):
        assert list(line.get_xdata()) == [0.25, 0.5, 1.0]
        assert list(line.get_ydata()) == [window / 5000 + share for share in (0.25, 0.5, 1.0)]
    assert list(memory.lines[1].get_xdata()) == [0.25, 1.0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"bench": "kept"}], "no row of `surface`"),
        ([*_rows(), *_rows(stage="only_sparse.drop")], "several"),
        ([*_rows(), *_rows(seed=1)], "several"),
    ],
)
def test_a_picture_of_no_surface_or_of_several_is_an_error(rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(StorageError, match=said) as error:
        drawn(rows, "surface.jsonl")
    assert str(error.value).startswith("surface.jsonl")


def test_the_committed_surface_is_drawn_and_shown(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "surface.png"
    shown = CliRunner().invoke(app, ["show", str(ROOT / "results/surface.jsonl"), "--picture", str(picture)])
    assert shown.exit_code == 0, shown.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = [line for line in shown.output.splitlines() if line.startswith("| etth1_96")]
    written = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert len(told) == 12
    for line in told:
        assert line in written, "docs/performance.md: not as results/surface.jsonl has it"


def test_the_tables_of_costs_are_those_of_the_file() -> None:
    """What a row of a stream, a variant and a stage cost is printed from results/costs.jsonl, and none is left out."""
    from wavecore.stages import STAGES

    rows = read(ROOT / "results/costs.jsonl")
    measured = {bench: {row["path"] for row in rows if row["bench"] == bench} for bench in ("variants", "stages")}
    assert measured["stages"] == set(_ladder())
    assert measured["variants"] == {stage.name for stage in STAGES if stage.root == "titan"}
    assert len(machine(rows)) == 1
    for page, tables in (("stream_results.md", (machine, online, epochs, variants)), ("stages.md", (machine, stages))):
        written = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
        for table in tables:
            lines = table(rows)
            assert len(lines) > 2 or table is machine
            for line in lines:
                assert line in written, f"docs/{page}: not as results/costs.jsonl has it"
