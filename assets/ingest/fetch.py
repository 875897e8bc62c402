"""Get a dataset's raw file: from `$WAVECORE_DATA`, by download, from the generator, or from the user's own path."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from assets.ingest.files import copy_whole, sha256_of, sweep, write_whole
from assets.ingest.generate import as_csv, load_grid
from assets.storage import disk_errors
from data_contracts.catalog import Dataset, GeneratedSource, OwnSource, PublishedSource
from wavecore.errors import DataError

_TIMEOUT_SECONDS = 30


def obtain(dataset: Dataset, destination_folder: Path, data_dir: Path | None, root: Path | None = None) -> Path:
    """Put the raw file of `dataset` into `destination_folder`, byte for byte as published, and give its path.

    What lies there already is replaced only by a file that passed its check, and only whole.

    Args:
        dataset: whose file.
        destination_folder: where to.
        data_dir: the folder of `$WAVECORE_DATA`, looked through before anything is downloaded; None: not set.
        root: what a relative path of a user's own file starts from; None: the current directory.

    Raises:
        DataError: the file is not there, cannot be downloaded, or has another SHA-256 than the one pinned.
        StorageError: the disk is full.
    """
    destination = destination_folder / dataset.file
    if destination_folder.is_dir():
        sweep(destination_folder)
    source = dataset.source
    if isinstance(source, GeneratedSource):
        content = as_csv(*load_grid(source.seed, source.rows, source.channels, source.start))
        return write_whole(destination, content)
    if isinstance(source, OwnSource):
        own = (root or Path()) / source.path
        if not own.is_file():
            raise DataError(
                f"dataset {dataset.name}: there is no file {source.path}",
                f"put it back, or correct source.path in data_contracts/datasets/{dataset.name}.yaml",
            )
        return copy_whole(own, destination)
    return _published(dataset.name, source, destination, data_dir)


def _published(name: str, source: PublishedSource, destination: Path, data_dir: Path | None) -> Path:
    if destination.is_file() and sha256_of(destination) == source.sha256:
        return destination
    if data_dir is not None:
        found = find(source, data_dir)
        if found is not None:
            return copy_whole(found, destination)
    with tempfile.TemporaryDirectory(prefix="wavecore-") as folder:
        with disk_errors(Path(folder)):
            downloaded = _download(name, source, Path(folder), data_dir)
        return copy_whole(downloaded, destination)


def find(source: PublishedSource, data_dir: Path) -> Path | None:
    """Look for a published file below `data_dir`: at its path, at the end of its path, or anywhere by name.

    Raises:
        DataError: `data_dir` is no folder, or files of that name are there but none has the pinned SHA-256.
    """
    if not data_dir.is_dir():
        raise DataError(f"WAVECORE_DATA names {data_dir}, which is no folder", "correct it, or unset it to download")
    wrong: list[tuple[Path, str]] = []
    seen: set[Path] = set()
    for candidate in _candidates(source.path, data_dir):
        if candidate in seen or not candidate.is_file():
            continue
        seen.add(candidate)
        found = sha256_of(candidate)
        if found == source.sha256:
            return candidate
        wrong.append((candidate, found))
    if wrong:
        path, found = wrong[0]
        raise DataError(
            f"{path}: the SHA-256 is {found}, expected {source.sha256}; nothing was replaced",
            "put the unmodified published file there, or take this one away so that it is downloaded",
        )
    return None


def _candidates(path: str, data_dir: Path) -> Iterator[Path]:
    """The longest match of the path first; the whole tree is walked only when the direct places are empty."""
    parts = path.split("/")
    for skip in range(len(parts)):
        yield data_dir.joinpath(*parts[skip:])
    matches = sorted(p for p in data_dir.rglob(parts[-1]) if p.name == parts[-1])
    yield from sorted(matches, key=lambda match: -_common_tail(match.parts, tuple(parts)))


def _common_tail(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    count = 0
    for left, right in zip(reversed(a), reversed(b), strict=False):
        if left != right:
            break
        count += 1
    return count


def _download(name: str, source: PublishedSource, folder: Path, data_dir: Path | None) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    packed = source.member is not None
    known = source.archive_sha256 if packed else source.sha256
    try:
        pooch.retrieve(
            source.url,
            known_hash=f"sha256:{known}",
            fname="download",
            path=folder,
            processor=pooch.Unzip(extract_dir="unpacked") if packed else None,
            downloader=pooch.HTTPDownloader(progressbar=False, timeout=_TIMEOUT_SECONDS),
        )
    except ValueError as error:
        # The one error of pooch that is not about the line: another hash than the pinned one.
        raise DataError(
            f"{source.url}: the SHA-256 of the download is not the pinned {known} ({error}); nothing was replaced",
            "try again; if it stays so the file was changed where it is published: get the original and put it "
            f"below $WAVECORE_DATA as {source.path}",
        ) from error
    except requests.RequestException as error:
        where = "is not set" if data_dir is None else f"is {data_dir}, where it is not found"
        raise DataError(
            f"dataset {name}: {source.file} cannot be downloaded from {source.url} ({type(error).__name__}), "
            f"and WAVECORE_DATA {where}",
            f"connect to the network, or put the file there yourself: {source.path} (SHA-256 {source.sha256}) below a "
            "folder of your choice, and set WAVECORE_DATA to that folder",
        ) from error
    if not packed:
        return folder / "download"
    return _member(source, folder / "unpacked")


def _member(source: PublishedSource, folder: Path) -> Path:
    assert source.member is not None
    wanted = tuple(source.member.split("/"))
    for path in sorted(folder.rglob(wanted[-1])):
        if path.is_file() and _common_tail(path.parts, wanted) == len(wanted):
            found = sha256_of(path)
            if found == source.sha256:
                return path
            raise DataError(
                f"{source.url}: the SHA-256 of {source.member} is {found}, expected {source.sha256}; "
                "nothing was replaced",
                "correct member or sha256 in the dataset's YAML",
            )
    raise DataError(
        f"{source.url}: the archive holds no {source.member}", "correct source.member in the dataset's YAML"
    )
