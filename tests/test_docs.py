"""What the documents promise exists: files they link to, settings and modules they name."""

import re
from pathlib import Path

import pytest

from pi0.ript.config.decode import known_keys
from pi0.ript.config.schema import TrainConfig
from pi0.ript.scripts.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pi0/**/*.md")])
LINK = re.compile(r"\]\(([^)#]+)")
OVERRIDE = re.compile(r"--((?:\w+\.)+\w+)")
COMMAND = re.compile(r"^(?:\$ )?ript (\w+)", flags=re.MULTILINE)
PROJECT_FILE = re.compile(r"(?:pi0|docs|tools)/[\w/]+\.(?:py|yaml|md|sh)")


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
    keys = {key for key in OVERRIDE.findall(text) if not key.endswith(".py")}
    assert keys - set(known_keys(TrainConfig)) == set()
    assert set(COMMAND.findall(text)) <= set(COMMANDS)


def test_both_readmes_show_the_same_commands():
    english, chinese = (
        set(re.findall(r"^(?:make|ript|python) .*?(?=  +#|\s*$)", text, flags=re.MULTILINE))
        for text in (
            (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
        )
    )
    assert english <= chinese
