"""Faults of the world around a run: a full disk, a second run of the same partition, an edit while it trains.

Each gives one clear error, and what was there before is there after it, byte for byte.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import make_project, run, wavecore
from killing import CLI, LONG, Running, artifacts, checkpointed, lock, set_params, unfinished_runs

pytestmark = pytest.mark.slow

MEGABYTE = 2**20
# Runs the command line on a disk that is full for everything below store/tmp, where no file system can be mounted.
_REFUSING = """
import errno, os
fsync = os.fsync
def refusing(handle):
    if "/store/tmp/" in os.readlink(f"/proc/self/fd/{handle}"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return fsync(handle)
os.fsync = refusing
from pipelines.cli import main
main()
"""


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[bool]:
    """A file system of its own at `path`; False where this machine does not let us mount one."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


def longer_series(root: Path) -> None:
    """Make `tiny` long enough for its coefficients to be larger than what Dagster writes about a run."""
    path = root / "data_contracts" / "datasets" / "tiny.yaml"
    text = path.read_text()
    assert "rows: 900," in text
    path.write_text(text.replace("rows: 900,", "rows: 6000,"))


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    """The store is a disk of its own, so that everything else of the project lies on another one."""
    root = make_project(tmp_path / "project")
    longer_series(root)
    with small_disk(root / "store", 64) as mounted:
        wavecore(root, "run")
        before, locked = artifacts(root), lock(root)
        assert len(before["store/wavelets/tiny.T128/coefficients.parquet"]) > 4 * MEGABYTE
        set_params(root, {"features.burst_threshold": 6.0})

        ballast = root / "store" / "ballast"
        if mounted:
            ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - 3 * MEGABYTE))
            full = run(root, *CLI, "run", check=False)
        else:
            full = run(root, sys.executable, "-c", _REFUSING, "run", check=False)
        assert full.returncode == 1
        assert f"error: {root}/store/wavelets/tiny.T128: the disk is full" in full.stderr
        assert full.stderr.count("error:") == 1
        assert "Traceback" not in full.stderr
        assert artifacts(root) == before
        assert lock(root) == locked
        assert not [p for p in (root / "store" / "tmp").rglob("*") if p.is_file()]

        if mounted:
            # Not even room for a line in Dagster's own files.
            with ballast.open("ab") as file:
                file.write(bytes(max(0, shutil.disk_usage(ballast.parent).free - MEGABYTE // 16)))
            fuller = run(root, *CLI, "run", check=False)
            assert fuller.returncode == 1
            assert "the disk is full" in fuller.stderr
            assert "Traceback" not in fuller.stderr
            assert artifacts(root) == before

        ballast.unlink(missing_ok=True)
        wavecore(root, "run")
        assert artifacts(root) != before
        assert "up to date" in run(root, "dvc", "status").stdout
        assert unfinished_runs(root) == []


def training(root: Path) -> Running:
    """A run of `tiny` that is in the middle of training dlinear."""
    begun = Running(root, *CLI, "run")
    assert begun.wait_until(lambda: checkpointed(root) > 0), begun.text
    return begun


def test_a_second_run_of_the_same_partition_fails_at_once(finished_project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(finished_project, root, symlinks=True)
    set_params(root, LONG)
    first = training(root)
    began = time.monotonic()
    second = run(root, *CLI, "materialize", "model", "tiny|dlinear", check=False)
    assert second.returncode == 75
    assert f"model of tiny|dlinear: process {first.process.pid} " in second.stderr
    assert "already at work" in second.stderr
    assert "Traceback" not in second.stderr
    assert time.monotonic() - began < 45
    first.finish()
    assert "up to date" in run(root, "dvc", "status").stdout
    assert unfinished_runs(root) == []


def test_an_edit_of_the_settings_while_it_trains_is_no_lie_in_dvc(finished_project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(finished_project, root, symlinks=True)
    set_params(root, LONG)
    begun = training(root)
    before, locked = artifacts(root), lock(root)  # seasonal_naive was committed by now; dlinear is at work
    set_params(root, {"train.weight_decay": 0.1})
    begun.process.wait(240)
    begun.kill()
    assert begun.process.returncode == 1
    assert "model@tiny.dlinear" in begun.text
    assert "train.weight_decay was 0.0 and is 0.1" in begun.text
    assert "Traceback" not in begun.text
    assert artifacts(root) == before
    assert lock(root) == locked

    set_params(root, {"train.weight_decay": 0.0})
    wavecore(root, "run")
    assert artifacts(root) != before
    assert "up to date" in run(root, "dvc", "status").stdout
