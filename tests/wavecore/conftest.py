"""What the tests of the reprogrammed forecasters share."""

from pathlib import Path

import pytest
from language import FAMILIES, save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny language model per family. Read them; copy one to change it."""
    root = tmp_path_factory.mktemp("models")
    return {family: save(root / family, family) for family in FAMILIES}
