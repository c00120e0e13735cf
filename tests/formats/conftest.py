"""Checkpoints of one small pi0, written once per process in the layouts that tests damage."""

import shutil

import pytest

from tests.formats.checkpoints import (
    reference_model,
    write_lerobot,
    write_openpi,
    write_rlinf,
    write_transformers_saved,
)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Return the folders by the name of what wrote them; never changed."""
    root, model = tmp_path_factory.mktemp("originals"), reference_model()
    writers = (write_openpi, write_lerobot, write_rlinf, write_transformers_saved)
    return {write.__name__: write(root / write.__name__, model) for write in writers}


@pytest.fixture
def openpi(originals, tmp_path):
    """Return a copy to damage."""
    return shutil.copytree(originals["write_openpi"], tmp_path / "openpi")


@pytest.fixture
def lerobot(originals, tmp_path):
    """Return a copy to damage."""
    return shutil.copytree(originals["write_lerobot"], tmp_path / "lerobot")
