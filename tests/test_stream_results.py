"""The tables of docs/stream_results.md hold the means of `results/online/`, to the last digit shown."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "stream_results.md").read_text(encoding="utf-8")


def table(title: str, head: str) -> tuple[list[str], list[list[str]]]:
    """Of the table in this section whose head begins so: the columns' names, and the rows that are of a stage here."""
    section = re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = section[section.index(head) :].split("\n\n")[0].splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return names, [[row[0].strip("`"), *row[1:]] for row in rows if row[0].startswith("`")]


def mean(benchmark: str, stage: str, learner: str, metric: str) -> float | None:
    """Over three seeds, or of one that learns nothing; None where that learner did not stream."""
    found = []
    for path in sorted((ROOT / "results" / "online" / benchmark / stage).glob("seed=*/metrics.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found += [value for who, what, key, value in rows if (who, what, key) == (learner, metric, "all")]
    assert len(found) in (0, 1, 3), (benchmark, stage, learner)
    return sum(found) / len(found) if found else None


def percent(value: float | None, other: float | None) -> str:
    assert value is not None
    assert other is not None
    change = 100 * (value / other - 1)
    shown = f"{change:+.1f}%" if abs(change) < 100 else f"{change:+.0f}%"
    return "0.0%" if shown in ("+0.0%", "-0.0%") else shown


def held(title: str, suffix: str) -> int:
    """Holds a table of learners against horizons, the lowest of each column in bold; the number of cells."""
    names, rows = table(title, "| stage | learner | ETT")
    of, count = "", 0
    for i, column in enumerate(names[2:], start=2):
        of, step = column.lower().split(", ") if "," in column else (of, column)
        means = [mean(f"{of}_96to{step}{suffix}", row[0], row[1], "mse") for row in rows]
        least = min(value for value in means if value is not None)
        for row, value in zip(rows, means, strict=True):
            shown = "–" if value is None else f"**{value:.3f}**" if value == least else f"{value:.3f}"
            assert row[i] == shown, (row[:2], column)
            count += 1
    return count


def test_the_tables_of_learners_are_those_of_the_results() -> None:
    assert held("Every learner at 1, 24 and 48 steps", "") >= 72
    assert held("Against the published online DLinear", "_months") >= 48


def chance(benchmark: str, stage: str, learner: str) -> str:
    """p of a stream with one seed against the frozen model, as it is shown."""
    (path,) = (ROOT / "results" / "online" / benchmark / stage).glob("seed=*/metrics.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    (p,) = (value for who, what, key, value in rows if (who, what, key) == (learner, "against_frozen", "p"))
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# Section and benchmark of each table of stages in one stream.
OF_ONE = {
    "`titan` on ETTh1, 24 steps ahead": "etth1_96to24",
    "512 quarter hours in, 96 ahead, at D = 256": "ettm1_512to96",
    "The same, with labels that come late": "ettm1_512to96_late",
}


@pytest.mark.parametrize("title", OF_ONE)
def test_the_table_of_titan_is_that_of_the_results(title: str) -> None:
    names, rows = table(title, "| stage | learner | R²")
    assert len(rows) >= 10
    for cells in rows:
        # Two columns are called p: one is read by its place.
        row, benchmark = dict(zip(names, cells, strict=True)), OF_ONE[title]
        stage, learner = row["stage"], row["learner"]
        single = len(list((ROOT / "results" / "online" / benchmark / stage).glob("seed=*"))) == 1
        for column, metric in (("R²", "r2"), ("MSE", "mse"), ("MAE", "mae")):
            value = mean(benchmark, stage, learner, metric)
            assert value is not None
            assert row[column].strip("*") == f"{value:.3f}", (stage, learner, column)
        mse = mean(benchmark, stage, learner, "mse")
        if row["MSE against frozen"]:
            assert row["MSE against frozen"] == percent(mse, mean(benchmark, stage, "frozen", "mse")), (stage, learner)
            # Of several seeds p is of losses that are not in git.
            if single:
                assert cells[names.index("MSE against frozen") + 1] == chance(benchmark, stage, learner), (
                    stage,
                    learner,
                )
        if row["against `dlinear` online"]:
            other = mean(benchmark, "dlinear", "online", "mse")
            assert row["against `dlinear` online"] == percent(mse, other), (stage, learner)
        if row["rate"]:
            rate = mean(benchmark, stage, learner, "rate")
            assert rate is not None
            assert abs(float(row["rate"]) / rate - 1) < 1e-9, (stage, learner)


def test_the_ablations_are_those_of_the_results() -> None:
    names, rows = table("Ablations", "| variant |")
    for cells in rows:
        row = dict(zip(names, cells, strict=True))
        frozen, online = (mean("demo", row["variant"], learner, "mse") for learner in ("frozen", "online"))
        assert (row["MSE frozen"], row["MSE online"]) == (f"{frozen:.4f}", f"{online:.4f}"), row
        told = (mean("demo", row["variant"], learner, "r2") for learner in ("frozen", "online"))
        assert (row["R² frozen"], row["R² online"]) == tuple(f"{r2:.3f}" for r2 in told), row
        assert row["against frozen"] == percent(online, frozen), row
        for column, value, learner in (
            ("against `titan` frozen", frozen, "frozen"),
            ("against `titan` online", online, "online"),
        ):
            other = mean("demo", "titan", learner, "mse")
            # Left empty of `titan` itself, and of what is frozen where a variant has its weights.
            assert row[column] in (percent(value, other), "" if value == other else None), row
    shown = {cells[0] for cells in rows}
    assert {path.name for path in (ROOT / "results" / "online" / "demo").glob("titan*")} == shown
