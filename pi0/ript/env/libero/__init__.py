"""LIBERO's simulator: scenes, control, drawing; the only folder that imports robosuite or mujoco.

Importing anything below gives robosuite the settings of ``robosuite_macros.py``, which it reads before anything
else of its own.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class _MacroFinder(MetaPathFinder):
    """Finds our settings where robosuite looks for those of its user."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "robosuite.macros_private":
            return None
        return spec_from_file_location(fullname, Path(__file__).with_name("robosuite_macros.py"))


sys.meta_path.insert(0, _MacroFinder())
