"""One undisturbed run of the toy, with which those that were disturbed are compared."""

import pytest

from tests.train.toy_process import finish, only, start, two_long_steps
from tests.train.toy_run import toy_policy


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """Return the folder of a small pi0."""
    return toy_policy(tmp_path_factory.mktemp("toy") / "policy")


@pytest.fixture(scope="session")
def undisturbed(toy_folder, tmp_path_factory):
    """Return the run directory of a run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(two_long_steps(toy_folder, folder))
    said = finish(process)
    assert process.returncode == 0, said
    return only(folder)
