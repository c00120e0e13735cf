"""``ript``: one program, many commands, each with a page that says what it is for and how it is typed."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pi0.ript.config.reference import all_settings
from pi0.ript.scripts.cli import COMMANDS, dispatch

EXAMPLES = range(2, 5)  # how many lines
SETTINGS = {f"--{setting.key}" for setting in all_settings()}


def test_as_a_module_it_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "pi0.ript.scripts.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("usage: ript COMMAND")
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert "Examples:\n    ript train quickstart\n" in done.stdout


def test_an_unknown_command_is_refused_with_the_list_of_all():
    with pytest.raises(ValueError, match=r"unknown command 'evel'; allowed: .*eval"):
        dispatch(["evel"])


def lacks(name: str, page: str) -> Iterator[str]:
    """Yield what the help of a command lacks: usage, purpose, examples, texts of flags."""
    usage, _, rest = page.partition("\n\n")
    purpose = rest.partition("\n\n")[0]
    examples = re.findall(r"^    ript .*", page.partition("\nExamples:\n")[2], flags=re.MULTILINE)
    if not usage.startswith(f"usage: ript {name} "):
        yield f"{name}: program"
    if not re.fullmatch(r"[A-Z].{20,}\.", purpose, flags=re.DOTALL):
        yield f"{name}: purpose"
    if len(examples) not in EXAMPLES or not all(f" ript {name}" in line for line in examples):
        yield f"{name}: examples"
    known = SETTINGS | set(re.findall(r"--[\w.]+", re.sub(r"^    ript .*", "", page, flags=re.M)))
    for flag in re.findall(r"--[\w.]+", " ".join(examples)):
        if flag not in known:
            yield f"{name}: {flag} of an example"
    # A flag stands alone on its line where its text is on the next one, which is indented further.
    for flag in re.findall(r"^  (--\w+)(?: \S+)?\n(?!   )", page, flags=re.MULTILINE):
        yield f"{name}: text of {flag}"


def test_every_help_says_program_purpose_examples_and_what_flags_mean(
    capsys: pytest.CaptureFixture[str],
):
    found = []
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            dispatch([name, "--help"])
        assert not end.value.code
        found += lacks(name, capsys.readouterr().out)

    assert found == []


def test_planted_bad_help_is_found():
    page = (
        "usage: cli.py [-h]\n\nText\n\nExamples:\n    ript eval --suit x\n\n  --seed SEED\n  -h\n"
    )
    assert list(lacks("eval", page)) == [
        "eval: program", "eval: purpose", "eval: examples", "eval: --suit of an example",
        "eval: text of --seed",
    ]  # fmt: skip
