"""Start a module of this package as a program: ``python -P start.py MODULE ARGUMENT ...``.

``python -m`` would put the current folder before all that is installed, and ``PYTHONPATH`` every file beside
``pi0``. So that a clone of robosuite or a ``numpy.py`` there shadows nothing, ``pi0`` alone is taken from where
this file is: the child runs the code of the program that starts it.
"""

import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).parents[3]


def load_package() -> None:
    """Import ``pi0`` from the folder of this file, wherever else one may be installed."""
    spec = spec_from_file_location(
        "pi0", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["pi0"] = module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
