"""A core for programs whose threads would only wait for each other."""

import os


def own_core() -> int:
    """Return a core that no other process of the same test session uses, as long as there are enough."""
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return cores[int(worker.removeprefix("gw")) % len(cores)]
