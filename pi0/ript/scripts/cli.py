"""The ``ript`` command: ``ript train``, ``ript eval`` and the rest; ``ript --help`` lists them."""

import importlib
import logging
import sys
from collections.abc import Sequence

from rich.console import Console

from pi0.ript.report.console import setup_logging
from pi0.ript.scripts.exits import run_main

COMMANDS = {
    "train": ("pi0.ript.scripts.train_ript_pi0", "improve a policy by reinforcement learning"),
    "eval": ("pi0.ript.scripts.eval", "measure a policy on held-out initial states"),
    "serve": ("pi0.ript.scripts.serve", "let openpi's clients ask a policy for actions"),
    "demos": ("pi0.ript.scripts.demos", "record demonstrations of the scripted experts"),
    "replay": ("pi0.ript.scripts.replay", "draw saved rollouts again, as a data set"),
    "convert": ("pi0.ript.scripts.convert", "write a policy as openpi, LeRobot or transformers do"),
    "inspect": (
        "pi0.ript.scripts.inspect_policy",
        "say whether a checkpoint is loaded right, and what does not fit",
    ),
    "doctor": ("pi0.ript.scripts.doctor", "check this machine and say what to fix"),
    "plan": ("pi0.ript.scripts.plan", "say what a run needs in memory before it starts"),
    "report": ("pi0.ript.scripts.report", "write one page about one or several runs"),
    "watch": ("pi0.ript.scripts.watch", "show a run in the browser while it goes on"),
    "probe": ("pi0.ript.scripts.probe", "measure how much exploration noise reaches the actions"),
    "soak": (
        "pi0.ript.scripts.soak",
        "train while workers are killed, and show that nothing is lost",
    ),
    "sft": ("pi0.ript.scripts.sft", "fine-tune a policy on demonstrations"),
}
HELP = """\
usage: ript COMMAND ...

Reinforcement learning of pi0 on LIBERO: one loaded model drives many simulators.

commands; "ript COMMAND --help" says more:
{commands}

Examples:
    ript train quickstart
    ript eval --suite libero_goal --tasks 7 --episodes 20
    ript doctor
"""


def help_page() -> str:
    """Return what ``ript --help`` prints."""
    return HELP.format(
        commands="\n".join(f"  {name:<9}{what}" for name, (_, what) in COMMANDS.items())
    )


def dispatch(argv: Sequence[str]) -> int | None:
    """Run the command that the first argument names and return its exit status, None for 0."""
    if not argv or argv[0] in ("-h", "--help"):
        print(help_page(), end="")
        return None
    if argv[0] not in COMMANDS:
        raise ValueError(f"unknown command {argv[0]!r}; allowed: {', '.join(COMMANDS)}")
    setup_logging(logging.getLevelName(logging.INFO), Console(stderr=True))
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])


def main() -> None:
    """Entry point of the console command."""
    run_main(dispatch, sys.argv[1:])


if __name__ == "__main__":
    main()
