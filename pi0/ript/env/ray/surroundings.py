"""What Ray would hand on to actors from the program that connects to it, held back while it does."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pi0.ript.env.pool.process_environment import simulator_environment

PACKAGE = Path(__file__).parents[3]
PYTHONPATH = "PYTHONPATH"


@contextlib.contextmanager
def no_local_imports() -> Iterator[None]:
    """Keep Ray from telling actors to import from the current folder and that of the script first."""
    folder, paths = Path.cwd(), list(sys.path)
    script = str(Path(sys.argv[0]).resolve().parent)
    os.chdir("/")  # a folder that every host has, without packages
    sys.path[:] = [path for path in paths if path != script]
    try:
        yield
    finally:
        os.chdir(folder)
        sys.path[:] = paths


@contextlib.contextmanager
def only_needed_variables() -> Iterator[None]:
    """Hide the variables that simulators do not inherit, API keys among them, from what Ray starts."""
    needed = simulator_environment(os.environ)
    hidden = {key: value for key, value in os.environ.items() if key not in needed}
    for key in [key for key in hidden if not key.startswith("RAY_")]:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)


def import_path(folder: Path) -> dict[str, str]:
    """Return the variable with which actors on this host find ``pi0``, and nothing else of where it lies.

    Args:
        folder: Receives a link to the package.
    """
    link = folder / "code" / PACKAGE.name
    if not link.is_symlink():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(PACKAGE)
    others = simulator_environment(os.environ).get(PYTHONPATH, "")
    return {PYTHONPATH: os.pathsep.join(filter(None, (str(link.parent), others)))}
