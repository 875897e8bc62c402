"""`kill -9` at any moment: the next run starts at once and ends as if nothing had happened.

The moments are drawn from a fixed seed: twenty spread over an undisturbed run, six between the renames by which an
artifact takes its place, three within `dvc repro`. Kills follow each other on one project, so that a run meets what
several dead ones have left.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import make_project
from killing import CLI, Running, assert_as_undisturbed, set_params

pytestmark = pytest.mark.slow

SEED = 20
# A machine at work is slow, but a lock that is waited for costs minutes.
SLACK = 45.0


@dataclass(frozen=True)
class Undisturbed:
    """A project in which everything ran through, and when each phase of that run began.

    Attributes:
        phases: the phases' lines, in order.
        began: seconds at which each began; the start of the command comes before the first.
        seconds: of the whole run.
        other: the same project after a run with other settings, edited back: all that follows the series is out of
            date, and the old artifacts lie where the new ones go.
    """

    root: Path
    other: Path
    phases: list[str]
    began: list[float]
    seconds: float

    def moment(self, share: float) -> tuple[int, float]:
        """(number of phases that have begun, seconds since the last began) at a share of the whole run."""
        at = share * self.seconds
        begun = sum(b <= at for b in self.began)
        return begun, at - ([0.0, *self.began][begun])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    root = make_project(folder / "project")
    first = Running(root, *CLI, "run")
    seconds = first.finish()
    other = folder / "other"
    shutil.copytree(root, other, symlinks=True)
    set_params(other, {"judge.select_share": 0.4})
    Running(other, *CLI, "run").finish()
    shutil.copy(root / "params.yaml", other)
    return Undisturbed(root, other, list(first.seconds_of), list(first.seconds_of.values()), seconds)


def kill_at(root: Path, phases: Sequence[str], begun: int, delay: float) -> Running:
    """Start a run and kill it `delay` seconds after phase number `begun`, or one that comes later, has begun."""
    attempt = Running(root, *CLI, "run")
    awaited = set(phases[begun - 1 :]) if begun else set()
    alive = attempt.wait_until(lambda: not awaited or bool(awaited & attempt.seconds_of.keys()))
    assert alive, attempt.text[-4000:]
    time.sleep(delay)
    attempt.kill()
    return attempt


def shares(count: int) -> list[float]:
    """One random share of the run out of each of `count` equal parts of it."""
    rng = random.Random(SEED)
    return [(i + rng.random()) / count for i in range(count)]


CHAINS = [shares(20)[start::4] for start in range(4)]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: " ".join(f"{share:.0%}" for share in chain))
def test_killed_at_moments_spread_over_the_run(undisturbed: Undisturbed, chain: list[float], tmp_path: Path) -> None:
    """Five kills on one project, each further on; the even chains from nothing, the odd ones over old artifacts."""
    root = tmp_path / "project"
    if CHAINS.index(chain) % 2:
        shutil.copytree(undisturbed.other, root, symlinks=True)
    else:
        make_project(root)
    killed = 0
    for share in chain:
        attempt = kill_at(root, undisturbed.phases, *undisturbed.moment(share))
        killed += attempt.process.returncode < 0
        for seconds in list(attempt.seconds_of.values())[:1]:
            # This run was itself the restart after the kill before.
            assert seconds < undisturbed.began[0] + SLACK, attempt.text
    assert killed >= len(chain) - 1  # the last moment may come after the end
    last = Running(root, *CLI, "run")
    assert last.finish() < undisturbed.seconds + SLACK
    assert_as_undisturbed(root, undisturbed.root)


# Runs the command line, and kills its whole group in place of the n-th rename below the project.
_BETWEEN_RENAMES = """
import os, signal, sys
left, root, rename = int(sys.argv.pop(1)), os.environ["WAVECORE_ROOT"], os.replace
def counted(source, target, **more):
    global left
    if str(target).startswith(root):
        left -= 1
        if left < 0:
            os.killpg(0, signal.SIGKILL)
    return rename(source, target, **more)
os.replace = counted
from pipelines.cli import main
main()
"""


def test_killed_between_the_renames_of_an_artifact(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Where an artifact's old folder has stepped aside and the new one is not yet in its place, and around that."""
    root, rng = tmp_path / "project", random.Random(SEED)
    shutil.copytree(undisturbed.other, root, symlinks=True)
    for _ in range(6):
        attempt = Running(root, sys.executable, "-c", _BETWEEN_RENAMES, str(rng.randrange(1, 12)), "run")
        attempt.wait_until(lambda: False)
        assert attempt.kill(), attempt.text
    Running(root, *CLI, "run").finish()
    assert_as_undisturbed(root, undisturbed.root)


def test_killed_within_dvc_repro(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """`dvc repro` and what it runs die together; both it and `wavecore run` go on from there."""
    root, rng = make_project(tmp_path / "project"), random.Random(SEED)
    Running(root, *CLI, "sync").finish()
    for _ in range(3):
        attempt = Running(root, "dvc", "repro", "-q")
        time.sleep(rng.uniform(5, 25))
        assert attempt.kill(), attempt.text
    Running(root, *CLI, "run").finish()
    assert_as_undisturbed(root, undisturbed.root)


def test_half_written_files_of_dvc_are_mended(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """DVC writes its lock file and its note of locks in place: a kill may cut off either, and leave valid YAML."""
    root = tmp_path / "project"
    shutil.copytree(undisturbed.root, root, symlinks=True)
    text = (root / "dvc.lock").read_text()
    copy = root / "store" / "runs" / "committing" / "dvc.lock"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text)
    (root / "dvc.lock").write_text(text[: text.index("- path") + len("- path:")])
    (root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {')
    last = Running(root, *CLI, "run")
    last.finish()
    assert "was half written" in last.text
    assert_as_undisturbed(root, undisturbed.root)
