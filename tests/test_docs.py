"""What the documents promise exists: files they link to, settings and modules they name."""

import ast
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from pi0.ript.config.decode import known_keys
from pi0.ript.config.legacy import LEGACY
from pi0.ript.config.schema import TrainConfig
from pi0.ript.scripts.cli import COMMANDS
from tests.project_files import PACKAGE, ROOT, nodes_of, relative, text_of

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pi0/**/*.md")])
LINK = re.compile(r"\]\(([^)#]+)")
OVERRIDE = re.compile(r"--((?:\w+\.)+\w+)")
COMMAND = re.compile(r"^(?:\$ )?ript (\w+)", flags=re.MULTILINE)
PROJECT_FILE = re.compile(r"(?:pi0|docs|tools|examples|tests|benchmarks)/[\w/]+\.(?:py|yaml|md|sh)")
SECTIONS = {key.split(".")[0] for key in known_keys(TrainConfig) if "." in key}
# `task.num_parallel_envs` in running text; what has the form of a file name is none.
KEY = re.compile(rf"`((?:{'|'.join(sorted(SECTIONS))})(?:\.\w+)+)(?:: [^`]*)?`")
METHODS = {"env.step", "env.reset", "policy.act", "policy.card"}  # attributes, no settings
# A line "<!-- runs -->" before a block, or "<!-- runs: libero -->" where it needs the simulator.
BLOCK = re.compile(r"<!-- runs(: libero)? -->\n+```bash\n(.*?)```", flags=re.DOTALL)

# Sections about messages, and the messages: what a table row or a paragraph begins with.
TROUBLE = re.compile(
    r"^## (?:When something is wrong|Errors|9\. ).*?(?=^## |\Z)", flags=re.MULTILINE | re.DOTALL
)
MESSAGE = re.compile(r"^(?:\| |\*\*)`([^`]+)`", flags=re.MULTILINE)
# What differs from one occasion to the next, and what is put before every error.
VALUE = re.compile(r"'[^']*'|\d+|\.\.\.|^error: ")


def is_file(name):
    return name.endswith((".py", ".yaml", ".json", ".jsonl"))


def runnable():
    for path in DOCUMENTS:
        for number, (needs, commands) in enumerate(BLOCK.findall(text_of(path)), 1):
            marks = [pytest.mark.slow, *([pytest.mark.libero] if needs else [])]
            one_per_line = re.sub(r"\s*\\\n\s*", " ", commands)
            yield pytest.param(one_per_line, id=f"{path.stem}-{number}", marks=marks)


@cache  # the same commands in two documents are run once
def run_block(commands):
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        # What the commands write goes to a folder of links to the project.
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name != "outputs":
                (Path(folder) / entry.name).symlink_to(entry)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


@pytest.mark.parametrize("commands", list(runnable()))
def test_block_marked_as_runnable_runs(commands):
    done = run_block(commands)
    assert done.returncode == 0, done.stderr


def test_guides_have_runnable_blocks():
    assert len(list(runnable())) >= 6


def dead_ends(path, text):
    """Return the files that a document links to or names and that do not exist."""
    links = [link for link in LINK.findall(text) if not link.startswith("http")]
    named = {link: path.parent / link for link in links}
    named |= {name: ROOT / name for name in PROJECT_FILE.findall(text)}
    return [name for name, file in named.items() if not file.exists()]


def gaps(path, text):
    """Return the marks at which a number was to be filled in."""
    return re.findall(r"@[A-Z]+@|<!-- figures.*", text)


def inventions(path, text):
    """Return the settings and commands that a document names and that do not exist."""
    keys = {key for key in OVERRIDE.findall(text) + KEY.findall(text) if not is_file(key)}
    unknown = keys - set(known_keys(TrainConfig)) - set(LEGACY) - METHODS
    return sorted(unknown | (set(COMMAND.findall(text)) - set(COMMANDS)))


def in_documents(rule):
    """Return ``document: what`` for everything that a rule finds in the documents."""
    return [f"{relative(path)}: {what}" for path in DOCUMENTS for what in rule(path, text_of(path))]


def test_documents_point_at_what_exists():
    assert in_documents(dead_ends) == []


def test_documents_have_no_number_left_to_fill_in():
    assert in_documents(gaps) == []


def test_documents_name_only_real_settings_and_commands():
    assert in_documents(inventions) == []


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        (dead_ends, "see [this](no_such.md), [that](README.md)", ["no_such.md"]),
        (dead_ends, "`pi0/no_such.py`", ["pi0/no_such.py"]),
        (gaps, "rises to @SUCCESS@", ["@SUCCESS@"]),
        (inventions, "`ript train --algo.no_such 1 --algo.lr 1`", ["algo.no_such"]),
        (inventions, "`task.no_such`, `env.step` and `task.task_name`", ["task.no_such"]),
        (inventions, "ript dance\nript eval", ["dance"]),
    ],
)
def test_planted_promise_is_found(rule, text, found):
    assert rule(ROOT / "README.md", text) == found


def quoted_messages():
    sections = (section for path in DOCUMENTS for section in TROUBLE.findall(text_of(path)))
    return [message for section in sections for message in MESSAGE.findall(section)]


@cache
def texts_of_the_code():
    nodes = (node for path in PACKAGE for node in nodes_of(text_of(path)))
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(value for value in values if isinstance(value, str))


def unspoken(message):
    """Return the parts of a quoted message that no text of the code has."""
    parts = [part.strip() for part in VALUE.split(message)]
    return [part for part in parts if part not in texts_of_the_code()]


def test_quoted_messages_occur_in_the_code():
    found = {message: unspoken(message) for message in quoted_messages()}
    assert {message: parts for message, parts in found.items() if parts} == {}


def test_planted_message_is_found():
    assert unspoken("error: the policy 'x' is ever printed") == ["is ever printed"]


def test_guides_quote_messages():
    assert len(quoted_messages()) >= 8


def test_both_readmes_show_the_same_commands():
    english, chinese = (
        set(re.findall(r"^(?:make|ript|python) .*?(?=  +#|\s*$)", text, flags=re.MULTILINE))
        for text in (text_of(ROOT / name) for name in ("README.md", "README.zh-CN.md"))
    )
    assert english <= chinese
