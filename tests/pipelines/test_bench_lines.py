"""What a bench writes as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.bench import app
from pipelines.bench_lines import here
from wavecore.bench.rows import Row


def test_rows_begin_with_the_machine_once_whatever_a_bench_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is measured takes minutes and is not in question.
    monkeypatch.setattr("wavecore.bench.speed.speed", lambda bench, name, count, *_: [Row(bench, name, series=count)])
    said = CliRunner().invoke(app, ["infer", "--series", "1,2", "--json"])
    assert said.exit_code == 0, said.output
    rows = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    assert [row["bench"] == "machine" for row in rows] == [True] + [False] * (len(rows) - 1)
    assert [row["series"] for row in rows[1:]] == [1, 2]
    assert {"cpu", "cores", "torch", "commit", "date"} <= set(rows[0])


def test_the_commit_is_marked_where_code_differs_and_not_where_results_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*args: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *author, *args], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for name in ("params.yaml", "wavecore/code.py", "results/rows.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1\n")
    monkeypatch.setenv("WAVECORE_ROOT", str(tmp_path))
    assert here().more["commit"] == "no git"
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")[:10]
    (tmp_path / "results/rows.jsonl").write_text("")  # where the rows of this very bench go
    assert here().more["commit"] == commit
    (tmp_path / "wavecore/code.py").write_text("b: 1\n")
    assert here().more["commit"] == commit + "+"
