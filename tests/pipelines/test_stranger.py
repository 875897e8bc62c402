"""A stranger's file goes from `wavecore add` to a leaderboard with only what the messages say."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml
from conftest import make_project, run, wavecore

from assets.ingest.generate import load_grid


def stranger(path: Path, rows: int) -> None:
    """A file with the habits of real ones: BOM, CRLF, semicolons, comma decimals, a Berlin clock, a gap, sentinels."""
    values = load_grid(3, rows, 3)[2]
    lines = ["Zeit;Nord (MW);Industrie;Süd;Bemerkung"]
    for i in range(rows):
        if 700 <= i < 712:
            continue
        local = (datetime(2024, 9, 1, tzinfo=UTC) + timedelta(hours=i)).astimezone(ZoneInfo("Europe/Berlin"))
        cells = [f"{v:.2f}".replace(".", ",") for v in values[i]]
        if i % 300 == 17:
            cells[1] = "-999"
        lines.append(f"{local:%d.%m.%Y %H:%M};{';'.join(cells)};{'Wartung' if i == 9 else ''}")
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())


@pytest.mark.slow
def test_a_strangers_file_goes_all_the_way(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    file = tmp_path / "Strom Süd 2024.csv"
    rows = 1800
    stranger(file, rows)
    said = wavecore(root, "add", str(file)).stdout
    for part in (
        "separated by ';'", "decimal comma", "Europe/Berlin", "2024-10-27", "'Bemerkung'", "treatment.sentinels",
        "-999 stands 6 times in 'Industrie'", "no row for 12 steps", "treatment.missing: mask", "season 24",
        f"{rows} steps of 1h",
    ):  # fmt: skip
        assert part in said, said
    (name,) = re.findall(r"wrote data_contracts/datasets/(\w+)\.yaml", said)
    declared = yaml.safe_load((root / "data_contracts/datasets" / f"{name}.yaml").read_text())
    assert declared["source"]["kind"] == "own"
    assert declared["format"]["timezone"] == "Europe/Berlin"
    assert declared["treatment"]["sentinels"] == [-999.0]

    # The last line says how to go on.
    (following,) = re.findall(r"^next: (.*)$", said, re.MULTILINE)
    program, *args = shlex.split(following)
    assert program == "wavecore"
    done = wavecore(root, *args)
    assert "Traceback" not in done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()[1:]} == {"seasonal_naive", "dlinear"}
    table = [json.loads(line) for line in wavecore(root, "leaderboard", "--json").stdout.splitlines()]
    assert [row["benchmark"] for row in table] == [name, name]
    for row in table:
        assert 0 < row["mse"] < 3
        assert row["n_series"] > 0

    # The clock's two 2 o'clocks are two hours, the gap and the sentinels are gaps.
    series = pl.read_parquet(root / "store/series" / name / "series.parquet")
    assert series["timestamp"].n_unique() == rows
    assert series["timestamp"].min() == datetime(2024, 9, 1)
    missing = {str(c): n for c, n in series.group_by("channel").agg(pl.col("value").null_count()).iter_rows()}
    assert missing == {"Nord (MW)": 12, "Industrie": 18, "Süd": 12}
    page = (root / "store/report/report.html").read_text()
    assert "Industrie" in page

    # More of the same file: the next run takes it up.
    stranger(file, rows + 24)
    done = wavecore(root, *args)
    assert f"series  {name}" in done.stderr
    grown = pl.read_parquet(root / "store/series" / name / "series.parquet")
    assert grown["timestamp"].n_unique() == rows + 24
    assert wavecore(root, *args).stderr.count("·") == 2  # the views, and that nothing was to be done
    # `tiny`, which the matrix also has, was never run here; all of the file's own steps stand.
    status = json.loads(run(root, "dvc", "status", "--json").stdout or "{}")
    assert not [step for step in status if name in step], status
