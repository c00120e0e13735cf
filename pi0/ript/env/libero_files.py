"""Where LIBERO's files are: in its package, or where a configuration of LIBERO's own sends everybody."""

import os
from pathlib import Path

from libero.libero import get_default_path_dict, libero_config_path

from pi0.ript.config.base import ConfigError
from pi0.ript.config.yaml_text import parse_yaml

VARIABLE = "LIBERO_CONFIG_PATH"
NEEDED = ("bddl_files", "init_states", "assets")


def config_file() -> Path:
    """Return the file in which LIBERO looks for other paths; most often there is none."""
    return Path(os.environ.get(VARIABLE, libero_config_path)).expanduser() / "config.yaml"


def require_libero_files() -> None:
    """Refuse paths of another LIBERO that lead nowhere, or to less than this one needs.

    Raises:
        ValueError: Names the variable or the file, what it says, and what to do.
    """
    file = config_file()
    problem = _find_problem(file)
    if not problem:
        return
    who, remedy = f"LIBERO reads {file}", "move the file away"
    if VARIABLE in os.environ:
        who, remedy = f"{VARIABLE}={os.environ[VARIABLE]}: {file}", f"unset {VARIABLE}"
    raise ValueError(
        f"{who}, which {problem}; {remedy}, since LIBERO's files come with the package, or mend the file"
    )


def _find_problem(file: Path) -> str:
    try:
        if not file.is_file():
            return ""
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except PermissionError:
        return "this account may not read"
    except (ConfigError, UnicodeDecodeError, OSError) as error:
        return f"cannot be read ({' '.join(str(error).split())})"
    if content is None:
        return ""
    if not isinstance(content, dict):
        return "holds no keys with paths"
    packaged = get_default_path_dict()
    problems = [
        _compare(key, content[key], Path(packaged[key])) for key in NEEDED if key in content
    ]
    return next(filter(None, problems), "")


def _compare(key: str, path: object, packaged: Path) -> str:
    """Return what is wrong with a folder beside the one of the package; empty if it holds as much."""
    if not isinstance(path, str) or not Path(path).is_dir():
        return f"says {key}: {path}, where no folder is"
    lacks = {entry.name for entry in packaged.iterdir() if not entry.name.startswith(("_", "."))}
    lacks -= {entry.name for entry in Path(path).iterdir()}
    return f"says {key}: {path}, where {min(lacks)} is missing" if lacks else ""
