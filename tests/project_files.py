"""The project's own files for the rules about them, each read and parsed once per process."""

import ast
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "pi0").rglob("*.py"))


def relative(path: Path) -> str:
    """Return a file's path from the root of the project."""
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    """Return a file's text."""
    return path.read_text(encoding="utf-8")


@cache
def nodes_of(source: str) -> list[ast.AST]:
    """Return every node of a program's syntax tree."""
    return list(ast.walk(ast.parse(source)))


def offenders(rule: Callable[[str], Sequence[object]], files: Iterable[Path]) -> list[str]:
    """Return ``file: what`` for everything that a rule finds in the texts of files."""
    return [f"{relative(path)}: {what}" for path in files for what in rule(text_of(path))]
