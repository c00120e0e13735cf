"""Rules of the code base that no linter checks. Each one has a planted violation."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "pi0").rglob("*.py"))
PYTHON = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py"))]
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".txt"}
MAX_LINES = 400
CHINESE = ("RIPT_VLA_INTEGRATION_GUIDE.md",)
HOME_PATH = re.compile(r"(?<![\w.])/(?:home|Users|mnt/data)/\w+|(?<![\w.])/root/\w+")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_files() -> list[Path]:
    folders = [ROOT / name for name in ("pi0", "tests", "docs", "tools", "benchmarks", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return sorted(path for path in files if path.suffix in TEXT_SUFFIXES or path.name == "Makefile")


def prints(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]


def default_reads(source: str) -> list[int]:
    """Return the lines that read a setting with a default: ``cfg.get(..)``, ``getattr(cfg, ..)``."""
    lines: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            owner = ast.unparse(node.func.value)
        elif isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) == 3:
            owner = ast.unparse(node.args[0])
        else:
            continue
        if re.search(r"cfg|config", owner.lower()):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_package_prints_only_in_scripts(path):
    if "scripts" not in path.parts:
        assert prints(path.read_text()) == []


def test_planted_print_is_found():
    assert prints("def f():\n    print('x')") == [2]


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_settings_are_read_without_a_second_default(path):
    if "config" not in path.parent.parts:
        assert default_reads(path.read_text()) == []


@pytest.mark.parametrize("source", ["cfg.get('lr', 1)", "getattr(self.config, 'lr', None)"])
def test_planted_default_is_found(source):
    assert default_reads(source) == [1]


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", text_files(), ids=relative)
def test_text_is_ascii(path):
    if not path.name.endswith(".zh-CN.md") and path.name not in CHINESE:
        path.read_text(encoding="ascii")


@pytest.mark.parametrize("path", text_files(), ids=relative)
def test_text_names_no_private_folder(path):
    assert HOME_PATH.findall(path.read_text(encoding="utf-8")) == []


def test_planted_private_folder_is_found():
    planted = "/" + "home/someone/checkpoints"
    assert HOME_PATH.findall(f"path: {planted}")


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
# Importing robosuite and mujoco sets these; they select the renderer and are third-party behaviour.
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
