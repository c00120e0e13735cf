"""Tables, and sections that are written again without touching what is around them."""

import pytest

from benchmarks.document import markdown, write_section


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
