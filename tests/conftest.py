"""What tests share: a project of their own, far from the checkout's store, and the command line run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parents[1]
CODE = ("assets", "data_contracts", "pipelines", "wavecore")
FILES = ("params.yaml", "workspace.yaml", "constraints.txt", "pyproject.toml", ".gitignore", ".dvcignore")

# The same examples on every run, however slow, so that a change is judged by what it changes;
# `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

# No test reads the machine's own store, Dagster home or data.
os.environ.pop("DAGSTER_HOME", None)
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def environment(root: Path, **more: str) -> dict[str, str]:
    """The environment of a command in the project at `root`: its code, its store, nothing of the caller's."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "DVC_STAGE", "WAVECORE_DATA")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"WAVECORE_ROOT": str(root), "PYTHONPATH": str(root), "PATH": path, "PYTHONUNBUFFERED": "1", **more}


def run(
    root: Path, *command: str, check: bool = True, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in `root`; a failure shows all that it printed."""
    done = subprocess.run(
        command, cwd=root, env=environment(root, **env), capture_output=True, text=True, timeout=timeout
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(command)} → {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}")
    return done


def wavecore(root: Path, *args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `wavecore …` in the project at `root`."""
    return run(root, sys.executable, "-m", "pipelines.cli", *args, check=check, **env)


BASELINES = ("seasonal_naive", "dlinear")


def make_project(
    root: Path, benchmarks: tuple[str, ...] = ("tiny",), stages: tuple[str, ...] = BASELINES, threads: int = 1
) -> Path:
    """A checkout of its own below `root`: this code, these settings, an empty store, git and DVC.

    Its default matrix is small, and one thread is enough: on a busy machine two wait for one another at every sum of a
    small model, which makes it a hundred times slower.
    """
    root.mkdir(parents=True)
    for name in CODE:
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "on_demand"))
    for name in FILES:
        shutil.copy(CHECKOUT / name, root / name)
    (root / ".dvc").mkdir()
    shutil.copy(CHECKOUT / ".dvc" / "config", root / ".dvc" / "config")
    shutil.copy(CHECKOUT / ".dvc" / ".gitignore", root / ".dvc" / ".gitignore")
    params = (root / "params.yaml").read_text()
    for key, names in (("benchmarks", benchmarks), ("stages", stages)):
        line = next(text for text in params.splitlines() if text.strip().startswith(f"{key}: ["))
        params = params.replace(line, f"  {key}: [{', '.join(names)}]", 1)
    (root / "params.yaml").write_text(params.replace("\n  threads: 2\n", f"\n  threads: {threads}\n", 1))
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    for args in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "start")):
        subprocess.run([*git, *args], cwd=root, check=True, capture_output=True)
    return root


def files_below(*folders: Path) -> dict[str, bytes]:
    """Path → bytes of every file below the folders, to hold two moments against each other."""
    return {str(p): p.read_bytes() for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project per process of tests in which the default matrix on `tiny` has run. Read it; copy it to change it."""
    root = make_project(tmp_path_factory.mktemp("finished") / "project")
    wavecore(root, "run")
    return root


@pytest.fixture
def project_copy(finished_project: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of the finished project (store, DVC cache and all) that a test may change."""

    def copy(name: str = "copy") -> Path:
        root = tmp_path / name
        shutil.copytree(finished_project, root, symlinks=True, ignore=shutil.ignore_patterns("dagster", "__pycache__"))
        return root

    return copy
