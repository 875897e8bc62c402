"""The tables of docs/stream_results.md hold the means of `results/online/`, to the last digit shown."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "stream_results.md").read_text(encoding="utf-8")

Table = list[dict[str, str]]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str, head: str) -> Table:
    """The rows below the head that begins so, a column's name to its cell."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    # Two columns of one name (p, p) are told apart by the one before.
    names = [name if cells[0].count(name) == 1 else f"{cells[0][i - 1]}: {name}" for i, name in enumerate(cells[0])]
    return [dict(zip(names, row, strict=True)) for row in cells[2:]]


def mean(benchmark: str, stage: str, learner: str, metric: str) -> float | None:
    """Over three seeds; None where that learner did not stream."""
    found = []
    for path in sorted((ROOT / "results" / "online" / benchmark / stage).glob("seed=*/metrics.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found += [value for who, what, key, value in rows if (who, what, key) == (learner, metric, "all")]
    assert len(found) in (0, 1, 3), (benchmark, stage, learner)
    return sum(found) / len(found) if found else None


def percent(value: float | None, other: float | None) -> str:
    assert value is not None
    assert other is not None
    return f"{100 * (value / other - 1):+.1f}%".replace("+0.0", "0.0").replace("-0.0", "0.0")


def held(title: str, suffix: str) -> int:
    """Holds a table of learners against horizons; the number of cells."""
    head = "| stage | learner | ETT"
    line = section(title)[section(title).index(head) :].splitlines()[0]
    names, of = [], ""
    for column in (cell.strip() for cell in line.strip("|").split("|")[2:]):
        of, step = column.lower().split(", ") if "," in column else (of, column)
        names.append(f"{of}_96to{step}{suffix}")
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| `")]
    told = {(row[0].strip().strip("`"), row[1].strip()): [cell.strip() for cell in row[2:]] for row in rows}
    count = 0
    for i, name in enumerate(names):
        means = {key: mean(name, *key, "mse") for key in told}
        least = min(value for value in means.values() if value is not None)
        for key, value in means.items():
            shown = "–" if value is None else f"**{value:.3f}**" if value == least else f"{value:.3f}"
            assert told[key][i] == shown, (name, key)
            count += 1
    return count


def test_the_tables_of_learners_are_those_of_the_results() -> None:
    assert held("Every learner at 1, 24 and 48 steps", "") >= 72
    assert held("Against the published online DLinear", "_months") >= 48


def test_the_table_of_titan_is_that_of_the_results() -> None:
    rows = table(section("`titan` on ETTh1, 24 steps ahead"), "| stage | learner | R²")
    assert len(rows) >= 10
    for row in rows:
        stage, learner, name = row["stage"].strip("`"), row["learner"], "etth1_96to24"
        for column, metric in (("R²", "r2"), ("MSE", "mse"), ("MAE", "mae")):
            value = mean(name, stage, learner, metric)
            assert value is not None
            assert row[column].strip("*") == f"{value:.3f}", (stage, learner, column)
        mse = mean(name, stage, learner, "mse")
        if row["MSE against frozen"]:
            assert row["MSE against frozen"] == percent(mse, mean(name, stage, "frozen", "mse")), (stage, learner)
        if row["against `dlinear` online"]:
            other = mean(name, "dlinear", "online", "mse")
            assert row["against `dlinear` online"] == percent(mse, other), (stage, learner)
        if row["rate"]:
            rate = mean(name, stage, learner, "rate")
            assert rate is not None
            assert abs(float(row["rate"]) / rate - 1) < 1e-9, (stage, learner)


def test_the_ablations_are_those_of_the_results() -> None:
    rows = table(section("Ablations"), "| variant |")
    assert len(rows) >= 6
    for row in rows:
        stage = row["variant"].strip("`")
        mse = mean("demo", stage, "online", "mse")
        assert row["MSE online"] == f"{mse:.4f}", stage
        assert row["against frozen"] == percent(mse, mean("demo", stage, "frozen", "mse")), stage
        if row["against `titan` online"]:
            assert row["against `titan` online"] == percent(mse, mean("demo", "titan", "online", "mse")), stage
    told = {row["variant"].strip("`") for row in rows}
    assert {path.name for path in (ROOT / "results" / "online" / "demo").glob("titan*")} <= told
