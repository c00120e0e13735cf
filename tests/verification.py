"""Runs the checks of a verification program by hand: one line per check, exit status 1 if any fails."""

import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping


def run_checks(module: Mapping[str, object]) -> int:
    """Run every ``test_`` function of a module and print what it checked, its docstring's first line."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    checks = [value for name, value in module.items() if name.startswith("test_")]
    failures = sum(not _passes(check) for check in checks if callable(check))
    print(f"{len(checks) - failures} of {len(checks)} checks passed")
    return 1 if failures else 0


def _passes(check: Callable[[], None]) -> bool:
    what = inspect.cleandoc(check.__doc__ or check.__name__).splitlines()[0]
    start = time.monotonic()
    try:
        check()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        print(f"FAILED  {what}", flush=True)
        traceback.print_exc(file=sys.stdout)
        return False
    print(f"ok      {what} ({time.monotonic() - start:.1f} s)", flush=True)
    return True
