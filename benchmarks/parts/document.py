"""What benchmarks write into documents: tables, and sections between two marks."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pi0.files import write_atomically

ROOT = Path(__file__).parents[2]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with an empty line before and after it."""
    lines = [header, ["---"] * len(header), *rows]
    return ["", *("| " + " | ".join(row) + " |" for row in lines), ""]


def command_line(root: Path) -> str:
    """Return the command that is running, with paths below ``root`` relative to it and folders elsewhere as ``DIR``."""
    words = [word.removeprefix(f"{root}/") for word in sys.argv]
    return shlex.join(["python", *("DIR" if Path(word).is_absolute() else word for word in words)])


def marks(name: str) -> tuple[str, str]:
    """Return the lines before and after a section."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def write_section(document: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between the marks of a section and leave the rest of the document alone.

    Raises:
        ValueError: The document does not have the two marks, in this order.
    """
    begin, end = marks(name)
    text = document.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{document} has no section between {begin} and {end}")
    section = "\n".join(lines).strip("\n").replace("\n\n\n", "\n\n")
    write_atomically(document, f"{before}{begin}\n\n{section}\n\n{end}{after}")
