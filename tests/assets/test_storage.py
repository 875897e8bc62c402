"""Writes that happen wholly or not at all, and what a killed process leaves behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from assets import storage
from wavecore.errors import StorageError


def _fill(folder: Path, text: str) -> None:
    (folder / "a.txt").write_text(text)


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "store" / "x"
    for text in ("first", "second"):
        with storage.new_folder(target, tmp_path / "tmp") as folder:
            _fill(folder, text)
        assert (target / "a.txt").read_text() == text
    assert [p.name for p in (tmp_path / "tmp").iterdir()] == ["aside"]
    assert not list((tmp_path / "tmp" / "aside").iterdir())


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with storage.new_folder(target, tmp_path / "tmp") as folder:
        _fill(folder, "old")
    work = storage.new_folder(target, tmp_path / "tmp")
    _fill(work.__enter__(), "new")
    assert not work.__exit__(ValueError, ValueError("stop"), None)
    assert (target / "a.txt").read_text() == "old"


def test_the_last_check_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with storage.new_folder(target, tmp_path / "tmp") as folder:
        _fill(folder, "old")

    def refuse() -> None:
        raise StorageError("changed meanwhile", "run again")

    with pytest.raises(StorageError, match="meanwhile"), storage.new_folder(target, tmp_path / "tmp", refuse) as folder:
        _fill(folder, "new")
    assert (target / "a.txt").read_text() == "old"


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_the_disks_refusals_name_the_path(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught, storage.disk_errors(tmp_path / "windows"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "windows") in caught.value.problem


def test_a_swap_cut_in_two_is_undone(tmp_path: Path) -> None:
    """A process killed between the two renames: its artifact has stepped aside, the new one is not there yet."""
    target, tmp = tmp_path / "models" / "demo" / "dlinear", tmp_path / "tmp"
    code = f"""
import os
from pathlib import Path
from assets import storage
target, tmp = Path({str(target)!r}), Path({str(tmp)!r})
with storage.new_folder(target, tmp) as folder:
    (folder / "a.txt").write_text("old")
real, calls = os.replace, []
def replace(a, b):
    calls.append(a)
    if len(calls) == 3:  # the note, the old folder steps aside, and now the new one
        os._exit(9)
    real(a, b)
os.replace = replace
with storage.new_folder(target, tmp) as folder:
    (folder / "a.txt").write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == 9
    assert not target.exists()
    assert storage.recover(tmp) == [target]
    assert (target / "a.txt").read_text() == "old"
    assert [p.name for p in tmp.iterdir()] == ["aside"]


def test_recovery_leaves_a_living_process_alone(tmp_path: Path) -> None:
    with storage.new_folder(tmp_path / "x", tmp_path / "tmp") as folder:
        _fill(folder, "at work")
        storage.recover(tmp_path / "tmp")
        assert (folder / "a.txt").exists()


def test_a_process_is_known_by_its_start_too() -> None:
    pid, started = storage.owner().split("-")
    assert storage.alive(storage.owner())
    assert not storage.alive(f"{pid}-{int(started) - 1000}")
    assert not storage.alive("not a process")


def test_json_is_stable_and_has_no_nan() -> None:
    assert storage.to_json({"b": 1, "a": "ü"}) == '{\n "a": "ü",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        storage.to_json({"a": float("nan")})


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"a": 1')
    with pytest.raises(StorageError, match=r"metrics\.json"):
        storage.read_json(path)


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    """Only temporary files of processes that are gone: not the user's hidden files, not a writer at work."""
    pid, started = storage.owner().split("-")
    gone = [f".dvc.lock.{pid}-{int(started) - 1000}.tmp", f".comparison.parquet.{pid}-{int(started) - 1000}"]
    stay = [".gitignore", ".notes.tmp", ".v.1-2-3.tmp", f".dvc.lock.{storage.owner()}.tmp", "dvc.lock"]
    for name in gone + stay:
        (tmp_path / name).touch()
    storage.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(stay)


def test_a_killed_process_nobody_waited_for_is_gone(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark = f"{child.pid}-{int(psutil.Process(child.pid).create_time())}"
    assert storage.alive(mark)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not storage.alive(mark)
    child.wait()
