"""Raw files: found or downloaded, checked, whole, and what was there stays where something fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.ingest import files
from assets.ingest.fetch import find, obtain
from assets.ingest.files import copy_whole, write_whole
from data_contracts.catalog import Dataset, GeneratedSource, Licence, OwnSource, PublishedSource, Source
from wavecore.errors import DataError, StorageError

CONTENT = b"date,a\r\n2024-01-01,1\r\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
PATH = "forecasting/small/values.csv"


def dataset(source: Source) -> Dataset:
    return Dataset(
        name="x", title="x", description="x", source=source, step="1h", season=24, licence=Licence("own"),
        splits={"standard": {"validation": 1, "test": 1}},
    )  # fmt: skip


def published(url: str = "http://127.0.0.1:9/values.csv", sha256: str = SHA, **more: str) -> PublishedSource:
    return PublishedSource("published", PATH, url, sha256, **more)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()


@pytest.mark.parametrize(
    ("place", "base"),
    [
        (PATH, ""),
        (f"data/{PATH}", ""),
        ("small/values.csv", ""),
        ("values.csv", ""),
        (f"deep/er/{PATH}", "deep/er/forecasting/small"),
        ("elsewhere/values.csv", ""),
    ],
)
def test_found_below_the_data_folder(tmp_path: Path, place: str, base: str) -> None:
    there = tmp_path / "data dir" / place
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT)
    got = obtain(dataset(published()), tmp_path / "out", tmp_path / "data dir" / base)
    assert got == tmp_path / "out" / "values.csv"
    assert got.read_bytes() == CONTENT
    assert [p.name for p in got.parent.iterdir()] == ["values.csv"]


def test_of_two_files_of_that_name_the_right_one_is_taken(tmp_path: Path) -> None:
    for folder, content in (("small", b"other"), ("zzz/forecasting/small", CONTENT)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "values.csv").write_bytes(content)
    assert find(published(), tmp_path) == tmp_path / "zzz/forecasting/small/values.csv"


def test_wrong_hash_names_file_and_hashes_and_replaces_nothing(tmp_path: Path) -> None:
    there = tmp_path / PATH
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT + b"\n")
    out = tmp_path / "out"
    out.mkdir()
    (out / "values.csv").write_bytes(b"before")
    with pytest.raises(DataError) as error:
        obtain(dataset(published()), out, tmp_path)
    for part in (str(there), SHA, hashlib.sha256(CONTENT + b"\n").hexdigest(), "unmodified"):
        assert part in str(error.value)
    assert (out / "values.csv").read_bytes() == b"before"


def test_a_right_file_already_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "values.csv").write_bytes(CONTENT)
    before = (tmp_path / "values.csv").stat()
    obtain(dataset(published()), tmp_path, None)
    assert (tmp_path / "values.csv").stat().st_mtime_ns == before.st_mtime_ns


def test_a_data_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="WAVECORE_DATA names"):
        obtain(dataset(published()), tmp_path / "out", tmp_path / "absent")


@pytest.mark.parametrize("given", [False, True])
def test_offline_says_what_to_put_where(tmp_path: Path, given: bool) -> None:
    with pytest.raises(DataError) as error:
        obtain(dataset(published()), tmp_path / "out", tmp_path if given else None)
    for part in ("values.csv", PATH, SHA, "WAVECORE_DATA", "127.0.0.1:9"):
        assert part in str(error.value)
    assert not (tmp_path / "out" / "values.csv").exists()


def test_download(tmp_path: Path, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "values.csv").write_bytes(CONTENT)
    assert obtain(dataset(published(f"{url}/values.csv")), tmp_path, None).read_bytes() == CONTENT


def test_download_of_other_bytes(tmp_path: Path, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "values.csv").write_bytes(b"other")
    with pytest.raises(DataError) as error:
        obtain(dataset(published(f"{url}/values.csv")), tmp_path / "out", None)
    for part in (f"{url}/values.csv", SHA, hashlib.sha256(b"other").hexdigest(), PATH):
        assert part in str(error.value)
    assert not (tmp_path / "out" / "values.csv").exists()


def test_download_of_a_page_that_is_gone(tmp_path: Path, server: tuple[str, Path]) -> None:
    with pytest.raises(DataError, match="cannot be downloaded"):
        obtain(dataset(published(f"{server[0]}/gone.csv")), tmp_path, None)


@pytest.mark.parametrize(("member", "right"), [("values.csv", True), ("in/values.csv", True), ("absent.csv", False)])
def test_download_of_an_archive(tmp_path: Path, server: tuple[str, Path], member: str, right: bool) -> None:
    url, folder = server
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/values.csv", CONTENT)
        archive.writestr("in/other.csv", b"other")
    (folder / "all.zip").write_bytes(packed.getvalue())
    archive_sha = hashlib.sha256(packed.getvalue()).hexdigest()
    source = published(f"{url}/all.zip", member=member, archive_sha256=archive_sha)
    if right:
        assert obtain(dataset(source), tmp_path / "out", None).read_bytes() == CONTENT
        with pytest.raises(DataError, match=r"the SHA-256 of .*values\.csv is"):
            obtain(dataset(dataclasses.replace(source, sha256="0" * 64)), tmp_path / "out", None)
    else:
        with pytest.raises(DataError, match=r"holds no absent\.csv"):
            obtain(dataset(source), tmp_path / "out", None)


def test_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(CONTENT)
    own = dataset(OwnSource("own", "mine.csv"))
    assert obtain(own, tmp_path / "out", None, root=tmp_path).read_bytes() == CONTENT
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(DataError, match=r"no file mine\.csv.*\n.*source\.path in data_contracts/datasets/x\.yaml"):
        obtain(own, tmp_path / "out", None, root=tmp_path)
    assert (tmp_path / "out" / "mine.csv").read_bytes() == CONTENT


def test_generated_file(tmp_path: Path) -> None:
    made = dataset(GeneratedSource("generated", "load_grid", seed=1, rows=48, channels=2))
    first = obtain(made, tmp_path, None)
    assert first.name == "x.csv"
    before = (first.read_bytes(), first.stat().st_mtime_ns)
    obtain(made, tmp_path, None)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before


@pytest.mark.parametrize("what", ["copy", "write"])
def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    target = tmp_path / "out" / "values.csv"
    target.parent.mkdir()
    target.write_bytes(b"before")
    (tmp_path / "source.csv").write_bytes(CONTENT)

    def full(temporary: Path) -> None:
        temporary.write_bytes(b"da")  # part of it fits
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_copy", lambda source, temporary: full(temporary))
    monkeypatch.setattr(files, "_write", lambda temporary, content: full(temporary))
    with pytest.raises(StorageError) as error:
        copy_whole(tmp_path / "source.csv", target) if what == "copy" else write_whole(target, CONTENT)
    assert str(target) in str(error.value)
    assert "full" in str(error.value)
    assert {p.name: p.read_bytes() for p in target.parent.iterdir()} == {"values.csv": b"before"}


def test_full_disk_while_downloading(tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = server
    (folder / "values.csv").write_bytes(CONTENT)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "move", full)  # by which pooch puts a finished download in its place
    with pytest.raises(StorageError, match="full"):
        obtain(dataset(published(f"{url}/values.csv")), tmp_path, None)


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".part-123-values.csv").write_bytes(b"half")
    (tmp_path / "values.csv").write_bytes(CONTENT)
    obtain(dataset(published()), tmp_path, None)
    assert [p.name for p in tmp_path.iterdir()] == ["values.csv"]


def test_a_source_that_changes_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source.csv").write_bytes(CONTENT)
    monkeypatch.setattr(files, "_copy", lambda source, temporary: temporary.write_bytes(b"half"))
    with pytest.raises(StorageError, match="differs from its source"):
        copy_whole(tmp_path / "source.csv", tmp_path / "values.csv")
    assert not (tmp_path / "values.csv").exists()
