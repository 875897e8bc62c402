"""Commands of `wavecore` run inside the test's own process, which spares the seconds that a new one takes to start.

What Dagster knows of partitions is fixed when the definitions are imported, so a project entered here has the
checkout's datasets and benchmarks; tests that add one start processes.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import yaml
from conftest import environment, files_below, run

from assets.project import Project

# What a run makes, apart from logs, timings, locks and the report with its dates.
ARTIFACTS = ("raw", "series", "windows", "wavelets", "prompts", "splits", "prompt_ids", "models", "evaluations")


class Said(NamedTuple):
    """Exit status and output of one command."""

    code: int
    out: str
    err: str

    @property
    def steps(self) -> list[str]:
        """The steps that ran, as `asset  key`."""
        lines = [line.removeprefix("· ") for line in self.err.splitlines() if line.startswith("· ")]
        return [" ".join(line.split()) for line in lines if "  " in line]


@contextmanager
def entered(root: Path, **env: str) -> Iterator[Project]:
    """The project at `root` as the one that code in this process finds."""
    with mock.patch.dict(os.environ, environment(root, **env), clear=True):
        yield Project(root)


def command(root: Path, *args: str, **env: str) -> Said:
    """`wavecore ARGS` in the project at `root`, in this process."""
    from pipelines.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        entered(root, **env),
        mock.patch.object(sys, "argv", ["wavecore", *args]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def fine(root: Path, *args: str, **env: str) -> Said:
    """`command`, which must succeed."""
    said = command(root, *args, **env)
    assert said.code == 0, said
    return said


def refused(root: Path, *args: str, **env: str) -> str:
    """The one clear error of a command that must fail: `error: …` with its fix, and nothing of a traceback."""
    said = command(root, *args, **env)
    assert said.code == 1, said
    assert not any(sign in said.err + said.out for sign in ("Traceback", "Stack Trace", "STEP_FAILURE")), said.err
    assert said.err.count("error: ") == 1, said.err
    message = said.err[said.err.index("error: ") :]
    assert "\n  fix: " in message, message
    return message


def copied(finished: Path, target: Path) -> Path:
    """A copy of a project, store and DVC cache and all, without the locks of processes."""
    shutil.copytree(finished, target, symlinks=True, ignore=shutil.ignore_patterns("dagster", "__pycache__", "locks"))
    return target


def artifacts(root: Path, *kinds: str) -> dict[str, bytes]:
    """Bytes of everything that runs make (of the given folders of the store and `results`; of all of them)."""
    chosen = kinds or (*ARTIFACTS, "results")
    folders = [root / "results" if kind == "results" else root / "store" / kind for kind in chosen]
    return {path.removeprefix(str(root)): data for path, data in files_below(*folders).items()}


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one place in a file where `old` stands."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def dvc(root: Path, *args: str, check: bool = True) -> str:
    """Output of one DVC command."""
    done = run(root, sys.executable, "-m", "dvc", *args, check=check)
    return done.stdout + done.stderr


def git(root: Path, *args: str) -> str:
    """Output of one git command."""
    return run(root, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *args).stdout


def stages_run(output: str) -> set[str]:
    """The DVC stages that a `dvc repro` or `dvc exp run` started."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def locked(root: Path, file: str = "dvc.lock") -> dict[str, dict[str, object]]:
    """Stages of a lock file, by name."""
    path = root / file
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.is_file() else {}


def up_to_date(root: Path) -> None:
    """Fails unless DVC finds nothing changed anywhere in the repository."""
    said = dvc(root, "status")
    assert "up to date" in said, said
