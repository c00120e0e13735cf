"""Measure the layout of a checkout: ``python tools/house.py [ROOT] [--details] [--collect]``.

Sources are parsed, never imported, so any checkout can be measured with any interpreter. Rules:

- a module is a Python file of more than five lines below ``pi0/``: empty packages and files that
  hold one alias or one error class do not count;
- a folder holds the modules directly in it;
- an import counts wherever it stands: at the top, in a function or behind TYPE_CHECKING. Names of
  modules in strings do not count, nor does the package that Python loads with its module;
- an importer is a file below ``pi0/``: tests, tools, examples and benchmarks do not count;
- levels are the files on the longest chain of imports that stays inside ``env/``;
- a circle is a largest set of files that all import each other, directly or through others;
- functions are all of ``pi0/``, methods and nested ones included, from ``def`` to the last line;
- test functions are named ``test_*`` and stand in ``tests/`` or in ``test_*.py`` of the root.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

ENV = "pi0.ript.env"
MAX_TRIVIAL_LINES = 5
SHORT_MODULE_LINES = 60
LONG_FUNCTION_LINES = 60

Graph = dict[str, set[str]]  # every file of the package by dotted name, with the files it imports
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file: its folder as in ``pi0/ript/env`` and its number of lines."""

    folder: str
    lines: int
    tree: ast.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What is measured, by dotted name; ``chain`` has an importer before what it imports."""

    modules: dict[str, Source]
    importers: dict[str, list[str]]
    circles: list[list[str]]
    chain: list[str]
    function_lines: list[int]
    num_test_functions: int

    def short_modules(self) -> list[str]:
        """Return the modules under 60 lines, the shortest first."""
        short = [m for m, source in self.modules.items() if source.lines < SHORT_MODULE_LINES]
        return sorted(short, key=lambda m: self.modules[m].lines)

    def single_importer_modules(self) -> list[str]:
        """Return the modules that exactly one file imports."""
        return [m for m in self.modules if len(self.importers[m]) == 1]

    def folders(self) -> list[tuple[str, int]]:
        """Return every folder with its number of modules, the fullest first."""
        return Counter(source.folder for source in self.modules.values()).most_common()


def read_source(path: Path, root: Path) -> Source:
    """Parse one file; raises SyntaxError, which names the file."""
    text = path.read_text(encoding="utf-8")
    return Source(
        folder=path.parent.relative_to(root).as_posix(),
        lines=len(text.splitlines()),
        tree=ast.parse(text, filename=str(path)),
    )


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name; a package has the name of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield ``package.name`` and ``package`` for every name imported from a package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.module) for alias in node.names)


def import_graph(sources: dict[str, Source]) -> Graph:
    """Return the imports between the files; a name that is no file belongs to its package."""
    graph: Graph = {}
    for name, source in sources.items():
        found = {full if full in sources else base for full, base in imported_names(source.tree)}
        graph[name] = (found & sources.keys()) - {name}
    return graph


def imports_of_imports(graph: Graph) -> Graph:
    """Return for every file all that it imports, directly or through others."""
    closed = {name: set(direct) for name, direct in graph.items()}
    for middle, below in closed.items():
        for found in closed.values():
            if middle in found:
                found.update(below)
    return closed


def import_circles(graph: Graph) -> list[list[str]]:
    """Return the circles, each with its names sorted."""
    below = imports_of_imports(graph)
    circles = {
        frozenset(other for other in below[name] if name in below[other]) for name in graph
    } - {frozenset()}
    return sorted(sorted(circle) for circle in circles)


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest chain of imports; those inside a circle have no order and are left out."""
    below = imports_of_imports(graph)

    @cache
    def chain_from(name: str) -> list[str]:
        lower = sorted(other for other in graph[name] if name not in below[other])
        return [name, *max(map(chain_from, lower), key=len, default=[])]

    return max(map(chain_from, sorted(graph)), key=len, default=[])


def inside(graph: Graph, package: str) -> Graph:
    """Return the part of the graph that lies in one package, its sub-packages included."""
    names = {name for name in graph if f"{name}.".startswith(f"{package}.")}
    return {name: graph[name] & names for name in sorted(names)}


def functions(trees: Iterable[ast.Module]) -> Iterator[Function]:
    """Return all functions, methods and nested ones included."""
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, Function))


def measure(root: Path) -> House:
    """Read and measure a checkout; raises SyntaxError or ValueError where that cannot be done."""
    files = sorted((root / "pi0").rglob("*.py"))
    sources = {module_name(path, root): read_source(path, root) for path in files}
    if not sources:
        raise ValueError(f"{root} is no checkout: it has no Python file below pi0/")
    graph = import_graph(sources)
    tests = [*(root / "tests").rglob("*.py"), *root.glob("test_*.py")]
    test_functions = functions(read_source(path, root).tree for path in tests)
    own_functions = functions(source.tree for source in sources.values())
    return House(
        modules={m: s for m, s in sources.items() if s.lines > MAX_TRIVIAL_LINES},
        importers={m: [other for other in graph if m in graph[other]] for m in graph},
        circles=import_circles(graph),
        chain=longest_chain(inside(graph, ENV)),
        function_lines=[(f.end_lineno or f.lineno) - f.lineno + 1 for f in own_functions],
        num_test_functions=sum(f.name.startswith("test_") for f in test_functions),
    )


def num_collected_items(root: Path) -> int:
    """Ask pytest in ``root`` for the number of test items; raises ValueError if it fails."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", ""]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
    if done.returncode or not (match := re.match(r"(\d+) tests? collected", lines[-1])):
        raise ValueError(f"pytest cannot collect {root} (status {done.returncode}): {lines[-1]}")
    return int(match[1])


def rows(house: House, num_items: int | None) -> list[tuple[str, str, str]]:
    """Return name, measured value and goal of every line of the table."""
    folder, num_in_folder = house.folders()[0]
    lines = [source.lines for source in house.modules.values()]
    num_long = sum(length > LONG_FUNCTION_LINES for length in house.function_lines)
    return [
        ("modules", f"{len(house.modules):,}", "about 180"),
        ("median lines of a module", f"{median(lines):g}", "about 120"),
        (f"modules under {SHORT_MODULE_LINES} lines", f"{len(house.short_modules())}", "under 25"),
        ("most modules in a folder", f"{num_in_folder} ({folder})", "17"),
        ("import levels inside env/", f"{len(house.chain)}", "7"),
        ("modules with exactly one importer", f"{len(house.single_importer_modules())}", "-"),
        ("import circles", f"{len(house.circles)}", "0"),
        ("functions", f"{len(house.function_lines):,}", "-"),
        ("median lines of a function", f"{median(house.function_lines):g}", "-"),
        (f"functions over {LONG_FUNCTION_LINES} lines", f"{num_long}", "-"),
        ("test functions", f"{house.num_test_functions:,}", "about 1,130"),
        *([] if num_items is None else [("collected test items", f"{num_items:,}", "about 2,250")]),
    ]


def print_table(table: list[tuple[str, str, str]]) -> None:
    """Print aligned columns under their headings."""
    table = [("what", "here", "goal"), *table]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for i, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(" | ".join(cells).rstrip())
        if i == 0:
            print("-+-".join("-" * width for width in widths))


def print_list(title: str, entries: Iterable[str]) -> None:
    """Print a heading and one indented line per entry."""
    print(f"\n{title}")
    for entry in entries:
        print(f"  {entry}")


def print_details(house: House) -> None:
    """Print the lists behind the table."""
    single = (f"{m} <- {house.importers[m][0]}" for m in house.single_importer_modules())
    short = (f"{house.modules[m].lines:4} {m}" for m in house.short_modules())
    print_list("modules per folder", (f"{count:4} {folder}" for folder, count in house.folders()))
    print_list("modules with exactly one importer", single)
    print_list(f"modules under {SHORT_MODULE_LINES} lines", short)
    print_list("longest chain of imports inside env/", house.chain)


def main() -> int:
    """Print the table; status 2 and one line where the checkout cannot be measured."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--details", action="store_true", help="also the lists behind the table")
    parser.add_argument("--collect", action="store_true", help="also the test items; asks pytest")
    args = parser.parse_args()
    try:
        house = measure(args.root)
        table = rows(house, num_collected_items(args.root) if args.collect else None)
    except (OSError, SyntaxError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_table(table)
    if house.circles:
        print_list("import circles", (" <-> ".join(circle) for circle in house.circles))
    if args.details:
        print_details(house)
    return 0


if __name__ == "__main__":
    sys.exit(main())
