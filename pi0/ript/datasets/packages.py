"""Packages that only data sets need: ``pip install 'pi0-ript[data]'``."""

import importlib
from types import ModuleType


def import_for(what: object, name: str) -> ModuleType:
    """Return a module of a package that may be absent.

    Args:
        what: File or folder that needs it, for the message.
        name: Of the module.

    Raises:
        ValueError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ValueError(
            f"{what} needs {package}, which is not installed; type: pip install 'pi0-ript[data]'"
        ) from None
