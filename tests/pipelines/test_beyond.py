"""What `wavecore compare --beyond` shows: means over seeds of what the judge wrote, and where seeds lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inside import fine

from pipelines.beyond import _lie, markdown, rows_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("own", "below", "where"),
    [
        ([1.0, 2, 3], [4.0, 5, 6], "below"),
        ([4.0, 5, 6], [1.0, 2, 3], "above"),
        ([1.0, 2, 5], [4.0, 5, 6], None),
        ([1.0, 2, 4], [4.0, 5, 6], None),  # the same is not below
        ([1.0, 2], [4.0, 5, 6], None),  # two seeds say nothing
        ([1.0, 2, None], [4.0, 5, 6], None),
        ([1.0, 2, 3], [], None),
    ],
)
def test_seeds_lie_apart_only_where_all_of_them_do(
    own: list[float | None], below: list[float | None], where: str | None
) -> None:
    assert _lie(own, below) == where


def test_rows_are_means_over_seeds_of_what_was_judged() -> None:
    from assets.project import Project

    rows = {(r["measure"], r["stage"]): r for r in rows_of(Project(ROOT), "demo", ("sparse", "base"))}
    assert {stage for _, stage in rows} == {"base", "sparse"}
    files = sorted((ROOT / "results" / "demo" / "sparse").glob("seed=*/metrics.json"))
    found = [{tuple(r[:3]): r[3] for r in json.loads(file.read_text())["rows"]} for file in files]
    for measure, key in (
        ("MSE inside events", ("mse", "event", "inside")),
        ("divergence of the energy over scales", ("energy_kl", "spectrum", "all")),
        ("MSE, a gap of 10%", ("mse", "robust", "a gap of 10%")),
    ):
        row = rows[measure, "sparse"]
        assert row["value"] == pytest.approx(sum(one[key] for one in found) / len(found), rel=1e-12)
        assert row["seeds"] == len(found) == 3
        assert row["of_base"] == rows[measure, "base"]["value"]
    near = [sum(one["mse", "step", str(step)] for step in range(1, 7)) / 6 for one in found]
    assert rows["MSE, first quarter of the horizon", "sparse"]["value"] == pytest.approx(sum(near) / 3, rel=1e-12)
    # A stage is no further from itself than from itself.
    assert all(row["seeds_lie"] is None for (_, stage), row in rows.items() if stage == "base")


def test_for_programs_for_people_and_for_documents(finished_project: Path) -> None:
    rows = [json.loads(line) for line in fine(finished_project, "compare", "--beyond", "--json").out.splitlines()]
    assert {row["stage"] for row in rows} == {"seasonal_naive", "dlinear"}
    assert all(row["of_base"] is None and row["seeds_lie"] is None for row in rows)
    table = fine(finished_project, "compare", "--beyond", "--markdown").out.splitlines()
    assert table == markdown(rows).splitlines()
    assert len(table) == 2 + len({row["measure"] for row in rows})
    assert "dlinear (1)" in fine(finished_project, "compare", "--beyond", "-s", "dlinear").out
