"""Rules of the code base that no linter checks. Each one has a planted violation.

A rule is one test over all files; when it fails, it lists every offender.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project_files import PACKAGE, ROOT, nodes_of, offenders

PYTHON = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py"))]
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".txt"}
MAX_LINES = 400
CHINESE = ("RIPT_VLA_INTEGRATION_GUIDE.md", "RIPT_VLA_INTEGRATION_COMPLETE.md")
HOME_PATH = re.compile(r"(?<![\w.])/(?:home|Users|mnt/data)/\w+|(?<![\w.])/root/\w+")


def text_files() -> list[Path]:
    names = ("pi0", "tests", "docs", "tools", "benchmarks", "examples", ".ci")
    files = [path for name in names for path in (ROOT / name).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return sorted(path for path in files if path.suffix in TEXT_SUFFIXES or path.name == "Makefile")


def is_chinese(path: Path) -> bool:
    return path.name.endswith(".zh-CN.md") or path.name in CHINESE


def prints(source: str) -> list[str]:
    """Return the lines that print."""
    return [
        f"line {node.lineno}"
        for node in nodes_of(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]


def default_reads(source: str) -> list[str]:
    """Return the lines that read a setting with a default: ``cfg.get(..)``, ``getattr(cfg, ..)``."""
    lines: list[str] = []
    for node in nodes_of(source):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            owner = ast.unparse(node.func.value)
        elif isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) == 3:
            owner = ast.unparse(node.args[0])
        else:
            continue
        if re.search(r"cfg|config", owner.lower()):
            lines.append(f"line {node.lineno}")
    return lines


def excess(source: str) -> list[str]:
    """Return how long a text is that is too long to read."""
    length = len(source.splitlines())
    return [f"{length} lines"] if length > MAX_LINES else []


def foreign_letters(text: str) -> list[str]:
    """Return the letters beyond ASCII."""
    return sorted({letter for letter in text if not letter.isascii()})


def test_package_prints_only_in_scripts():
    assert offenders(prints, [path for path in PACKAGE if "scripts" not in path.parts]) == []


def test_planted_print_is_found():
    assert prints("def f():\n    print('x')") == ["line 2"]


def test_settings_are_read_without_a_second_default():
    others = [path for path in PACKAGE if "config" not in path.parent.parts]
    assert offenders(default_reads, others) == []


@pytest.mark.parametrize("source", ["cfg.get('lr', 1)", "getattr(self.config, 'lr', None)"])
def test_planted_default_is_found(source):
    assert default_reads(source) == ["line 1"]


def test_every_file_is_short_enough_to_read():
    assert offenders(excess, PYTHON) == []


def test_planted_length_is_found():
    assert excess("x = 1\n" * MAX_LINES) == []
    assert excess("x = 1\n" * (MAX_LINES + 1)) == ["401 lines"]


def test_text_is_ascii():
    english = [path for path in text_files() if not is_chinese(path)]
    assert offenders(foreign_letters, english) == []


def test_planted_letter_is_found():
    assert foreign_letters("caf\N{LATIN SMALL LETTER E WITH ACUTE}") == [chr(0xE9)]


def test_text_names_no_private_folder():
    assert offenders(HOME_PATH.findall, text_files()) == []


def test_planted_private_folder_is_found():
    planted = "/" + "home/someone"
    assert HOME_PATH.findall(f"path: {planted}/checkpoints") == [planted]


# Runs in a fresh interpreter: what importing every module of the package changes.
IMPORT_EVERYTHING = """
import contextlib, importlib, io, json, multiprocessing, os, sys

sys.path.insert(0, os.getcwd())
environ, path, argv = dict(os.environ), list(sys.path), list(sys.argv)
out = io.StringIO()
with contextlib.redirect_stdout(out):
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
changed = sorted(key for key in os.environ if os.environ.get(key) != environ.get(key))
gone = sorted(key for key in environ if key not in os.environ)
print(json.dumps({
    "environ": changed + gone,
    "sys.path": [entry for entry in sys.path if entry not in path],
    "stdout": out.getvalue(),
    "start_method": multiprocessing.get_start_method(allow_none=True),
    "argv": sys.argv != argv,
}))
"""
# Importing robosuite and mujoco sets these; they select the renderer and are third-party behavior.
RENDERER_VARIABLES = {"MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM", "MUJOCO_GL"}
# Importing torch (KMP_, TORCHINDUCTOR_), OpenCV (QT_, LD_LIBRARY_PATH) and gymnasium (PYGAME_) sets these.
THIRD_PARTY_PREFIXES = ("KMP_", "TORCHINDUCTOR_", "QT_", "LD_LIBRARY_PATH", "PYGAME_")


def module_names() -> list[str]:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_importing_every_module_changes_nothing_outside():
    result = subprocess.run(  # a fixed command of our own
        [sys.executable, "-c", IMPORT_EVERYTHING, json.dumps(module_names())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    changes = json.loads(result.stdout.splitlines()[-1])
    ours = [
        name
        for name in changes["environ"]
        if name not in RENDERER_VARIABLES and not name.startswith(THIRD_PARTY_PREFIXES)
    ]
    assert ours == []
    assert changes["sys.path"] == []
    assert changes["stdout"] == ""
    assert changes["start_method"] is None
    assert changes["argv"] is False
