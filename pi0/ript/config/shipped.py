"""The configurations that come with the package, by name: ``ript train quickstart``."""

from pathlib import Path

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import nearest


def shipped_configs() -> dict[str, Path]:
    """Return the file of every configuration that comes with the package by its name, in order."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def find_shipped(name: str) -> Path:
    """Return the file of a configuration that comes with the package.

    Raises:
        ConfigError: None has this name; names the nearest one and all.
    """
    shipped = shipped_configs()
    if name not in shipped:
        raise ConfigError(
            f"unknown configuration {name!r}; did you mean {nearest(name, tuple(shipped))!r}? Shipped: "
            f"{', '.join(shipped)}; a file is given as --config_path FILE, a setting as --<key> VALUE"
        )
    return shipped[name]


def purpose(path: Path) -> str:
    """Return what a shipped configuration is for: its first line, which is a comment."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
