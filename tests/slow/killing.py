"""What the tests of kills and faults share: runs that are ended by `kill -9`, and what must be equal afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import environment, files_below, run

ARTIFACTS = ("raw", "series", "windows", "wavelets", "prompts", "splits", "models", "evaluations")
CLI = (sys.executable, "-m", "pipelines.cli")
# Settings under which dlinear trains on `tiny` for some seconds, with a checkpoint every few of its steps.
STEPS = 4000
LONG = {
    f"overrides.benchmarks.tiny.dlinear.train.{key}": value
    for key, value in {"steps": STEPS, "eval_every": 20, "checkpoint_every": 20, "patience": STEPS}.items()
}


class Running:
    """A command in a process group of its own, and the lines it has written to standard error so far.

    Attributes:
        seconds_of: the line → seconds after the start at which it came.
    """

    def __init__(self, root: Path, *command: str, **env: str) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=root,
            env=environment(root, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.text = ""
        self.seconds_of: dict[str, float] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text += line
            if line.startswith("· "):
                self.seconds_of.setdefault(line[2:].strip(), time.monotonic() - self.began)

    def wait_until(self, there: Callable[[], bool], seconds: float = 240) -> bool:
        """Wait for something; False if the command ended before it came."""
        deadline = time.monotonic() + seconds
        while not there():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"nothing came in {seconds} s\n{self.text[-4000:]}")
            time.sleep(0.005)
        return True

    def kill(self) -> bool:
        """`kill -9` of the whole group; False if the command had ended by itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        return self.process.returncode == -signal.SIGKILL

    def finish(self, seconds: float = 300) -> float:
        """Wait for the end, which must be a success; the seconds it took."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"not done after {seconds} s\n{self.text[-6000:]}")
        self._reader.join()
        assert self.process.returncode == 0, self.text[-6000:]
        return time.monotonic() - self.began


def artifacts(root: Path) -> dict[str, bytes]:
    """Everything that is hashed: path below the project → bytes."""
    found = files_below(*(root / "store" / name for name in ARTIFACTS), root / "results")
    return {os.path.relpath(path, root): content for path, content in found.items()}


def lock(root: Path) -> Any:
    """dvc.lock as data."""
    return yaml.safe_load((root / "dvc.lock").read_text())


def set_params(root: Path, changes: dict[str, Any]) -> None:
    """Edit params.yaml: dotted key → value."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for dotted, value in changes.items():
        *way, last = dotted.split(".")
        at = params
        for key in way:
            at = at[key]
        at[last] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def checkpointed(root: Path) -> int:
    """The step of the resume checkpoint of dlinear on `tiny`; 0 where there is none."""
    for state in (root / "store" / "resume" / "tiny" / "dlinear").rglob("state.json"):
        with suppress(FileNotFoundError):
            return int(json.loads(state.read_text())["step"])
    return 0


def unfinished_runs(root: Path) -> list[str]:
    """Runs of the project's Dagster that claim to be on their way."""
    import dagster as dg

    over = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    with dg.DagsterInstance.from_config(str(root / "store" / "dagster")) as instance:
        return [f"{r.run_id} {r.status.value} {r.asset_selection}" for r in instance.get_runs() if r.status not in over]


def assert_as_undisturbed(root: Path, undisturbed: Path) -> None:
    """The same artifacts, the same lock file, nothing to do for DVC, nothing left over."""
    expected, found = artifacts(undisturbed), artifacts(root)
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []
    assert lock(root) == lock(undisturbed)
    assert "up to date" in run(root, "dvc", "status").stdout
    unfinished = (root / "store" / "tmp", root / ".dvc" / "tmp" / "wavecore", root / "store" / "resume")
    left = [str(p) for folder in unfinished for p in folder.rglob("*") if p.is_file()]
    left += [str(p) for folder in (root, root / "store") for p in folder.rglob(".*.tmp") if ".dvc" not in p.parts]
    assert left == []
    assert unfinished_runs(root) == []
