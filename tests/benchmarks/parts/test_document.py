"""Tables, and sections that are written again without touching what is around them."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks.parts.document import ROOT, command_line, markdown, write_section


def test_a_table_stands_between_empty_lines():
    assert markdown(["a", "b"], [["1", "2"]]) == ["", "| a | b |", "| --- | --- |", "| 1 | 2 |", ""]


def test_writing_a_section_again_replaces_it_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->old<!-- x: end -->\nafter\n")

    write_section(page, "x", ["new", *markdown(["a"], [["1"]])])
    once = page.read_text()
    write_section(page, "x", ["new", *markdown(["a"], [["1"]])])

    assert page.read_text() == once
    assert once == (
        "before\n<!-- x: begin -->\n\nnew\n\n| a |\n| --- |\n| 1 |\n\n<!-- x: end -->\nafter\n"
    )


@pytest.mark.parametrize("text", ["", "<!-- x: begin -->", "<!-- x: end --><!-- x: begin -->"])
def test_a_document_without_its_marks_is_refused_and_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)

    with pytest.raises(ValueError, match="has no section between <!-- x: begin -->"):
        write_section(page, "x", ["new"])

    assert page.read_text() == text


def test_a_command_names_no_folder_of_the_machine(monkeypatch):
    root = Path("/srv/clone")
    words = [f"{root}/benchmarks/x.py", "--output_dir", "/data/runs", "--arms", "bc fast"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line(root) == "python benchmarks/x.py --output_dir DIR --arms 'bc fast'"


def test_no_page_names_a_folder_of_the_machine_that_measured():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "pi0/builtin/README.md"]
    commands = {
        page: re.findall(r"`(python benchmarks/[^`]*)`", page.read_text()) for page in pages
    }
    assert any(commands.values())
    offenders = [
        f"{page.name}: {command}"
        for page, found in commands.items()
        for command in found
        if any(Path(word).is_absolute() for word in command.split())
    ]
    assert not offenders, "\n".join(offenders)
