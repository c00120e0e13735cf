"""What the documents promise exists: files they link to, settings and modules they name."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pi0.ript.config.decode import known_keys
from pi0.ript.config.legacy import LEGACY
from pi0.ript.config.schema import TrainConfig
from pi0.ript.scripts.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pi0/**/*.md")])
LINK = re.compile(r"\]\(([^)#]+)")
OVERRIDE = re.compile(r"--((?:\w+\.)+\w+)")
COMMAND = re.compile(r"^(?:\$ )?ript (\w+)", flags=re.MULTILINE)
PROJECT_FILE = re.compile(r"(?:pi0|docs|tools|examples|tests)/[\w/]+\.(?:py|yaml|md|sh)")
SECTIONS = {key.split(".")[0] for key in known_keys(TrainConfig) if "." in key}
# `task.num_parallel_envs` in running text; what has the form of a file name is none.
KEY = re.compile(rf"`((?:{'|'.join(sorted(SECTIONS))})(?:\.\w+)+)(?:: [^`]*)?`")
METHODS = {"env.step", "env.reset"}  # LIBERO's, not ours
# A line "<!-- runs -->" before a block, or "<!-- runs: libero -->" where it needs the simulator.
BLOCK = re.compile(r"<!-- runs(: libero)? -->\n+```bash\n(.*?)```", flags=re.DOTALL)

# Sections about messages, and the messages: what a row or a paragraph begins with.
TROUBLE = re.compile(
    r"^## (?:When something is wrong|Errors|9\. ).*?(?=^## |\Z)", flags=re.MULTILINE | re.DOTALL
)
MESSAGE = re.compile(r"^(?:\| |\*\*)`([^`]+)`", flags=re.MULTILINE)
# What differs from one occasion to the next, and what is put before every error.
VALUE = re.compile(r"'[^']*'|\d+|\.\.\.|^error: ")


def is_file(name):
    return name.endswith((".py", ".yaml", ".json"))


def runnable():
    for path in DOCUMENTS:
        for number, (needs, commands) in enumerate(BLOCK.findall(path.read_text("utf-8")), 1):
            marks = [pytest.mark.slow, *([pytest.mark.libero] if needs else [])]
            yield pytest.param(commands, id=f"{path.stem}-{number}", marks=marks)


@pytest.mark.parametrize("commands", list(runnable()))
def test_block_marked_as_runnable_runs(commands, tmp_path):
    # What the commands write goes to a folder of links to the project.
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "outputs":
            (tmp_path / entry.name).symlink_to(entry)
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_guides_have_runnable_blocks():
    assert len(list(runnable())) >= 6


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_points_at_what_exists(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if not link.startswith("http")]
    files = [path.parent / link for link in links]
    files += [ROOT / name for name in PROJECT_FILE.findall(text)]
    assert [str(file) for file in files if not file.exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_has_no_figure_left_to_fill_in(path):
    assert re.findall(r"@[A-Z]+@|<!-- figures.*", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_names_only_real_settings_and_commands(path):
    text = path.read_text(encoding="utf-8")
    keys = {key for key in OVERRIDE.findall(text) + KEY.findall(text) if not is_file(key)}
    assert keys - set(known_keys(TrainConfig)) - set(LEGACY) - METHODS == set()
    assert set(COMMAND.findall(text)) <= set(COMMANDS)


def quoted_messages():
    for path in DOCUMENTS:
        for section in TROUBLE.findall(path.read_text("utf-8")):
            for message in MESSAGE.findall(section):
                yield pytest.param(message, id=f"{path.stem}: {message}")


@pytest.fixture(scope="module")
def texts_of_the_code():
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "pi0").rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join(node.value for node in nodes if isinstance(node.value, str))


@pytest.mark.parametrize("message", list(quoted_messages()))
def test_quoted_message_occurs_in_the_code(message, texts_of_the_code):
    pieces = [piece.strip() for piece in VALUE.split(message)]
    assert [piece for piece in pieces if piece not in texts_of_the_code] == []


def test_guides_quote_messages():
    assert len(list(quoted_messages())) >= 8


def test_both_readmes_show_the_same_commands():
    english, chinese = (
        set(re.findall(r"^(?:make|ript|python) .*?(?=  +#|\s*$)", text, flags=re.MULTILINE))
        for text in (
            (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
        )
    )
    assert english <= chinese
