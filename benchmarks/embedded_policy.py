"""What the embedded policy can do: ``python benchmarks/embedded_policy.py --output_dir DIR [--publish]``.

Held-out episodes of every task that it was made for: as it is, without vision, and with the instruction of another task. An
interrupted program goes on where it was. ``--publish`` writes the table of its model card.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT, command_line, markdown, write_section
from benchmarks.parts.measure import describe_machine
from pi0.ript.demos.experts.tables import EXPERTS, with_experts
from pi0.ript.env.suites import all_tasks, step_limit
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.log import LOG_NAME, read_log
from pi0.ript.report.intervals import success_rate

DOCUMENT = ROOT / "pi0" / "builtin" / "README.md"
SECTION = "abilities"
SUITES = tuple(dict.fromkeys(suite for suite, _ in EXPERTS))
CONTROLS = ("none", "blind", "mute")
HEADER = ["task", "limit", "policy", "no vision (`blind`)", "wrong instruction (`mute`)"]


def measure(policy: str, episodes: Mapping[str, int], output: Path) -> None:
    """Run what is left of all evaluations.

    Args:
        policy: What is measured.
        episodes: Per task by control.
        output: A folder of evaluations.
    """
    for suite in SUITES:
        tasks = [str(task_id) for _, task_id in with_experts(all_tasks(suite))]
        for control in CONTROLS:
            command = [
                sys.executable, "-m", "pi0.ript.scripts.cli", "eval", "--policy", policy, "--suite", suite,
                "--tasks", *tasks, "--episodes", str(episodes[control]), "--control", control,
                "--output_dir", str(output / suite / control),
            ]  # fmt: skip
            subprocess.run(command, check=True)


def read(output: Path, suite: str) -> dict[str, list[EpisodeRecord]]:
    """Return the episodes of a suite by control."""
    folders = {control: output / suite / control for control in CONTROLS}
    return {control: list(read_log(folder / LOG_NAME)[1]) for control, folder in folders.items()}


def rows(suite: str, found: dict[str, list[EpisodeRecord]]) -> list[list[str]]:
    """Return a row per task and one of the suite."""
    labels = sorted({record.task_label for record in found["none"]})
    of_tasks = [
        [f"`{label.partition(' ')[0]}` {label.partition(' ')[2]}", *_cells(suite, found, label)]
        for label in labels
    ]
    return [*of_tasks, [f"**{suite}**", *_cells(suite, found, f"{suite}/")]]


def _cells(suite: str, found: dict[str, list[EpisodeRecord]], label: str) -> list[str]:
    some = {
        control: [record for record in records if record.task_label.startswith(label)]
        for control, records in found.items()
    }
    limit = step_limit(suite, "openpi", None)
    return [str(limit), *map(_rate, some.values())]


def _rate(records: Sequence[EpisodeRecord]) -> str:
    complete = [record for record in records if record.is_complete]
    states = [record.state_key for record in complete]
    rate = success_rate([record.is_success for record in complete], states)
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}], n = {rate.n}"


def publish(output: Path, command: str) -> None:
    """Write the table of the model card."""
    machine = describe_machine()
    lines = [
        f"Measured by `{command}` on {machine['cores']} cores ({machine['cpu']}), torch {machine['torch']}, "
        f"MuJoCo {machine['mujoco']}: held-out states, fixtures drawn per episode, the suite's limit of control "
        "steps, by ODE; 95 % Wilson intervals, wider where episodes share initial states.",
        *markdown(HEADER, [row for suite in SUITES for row in rows(suite, read(output, suite))]),
    ]
    write_section(DOCUMENT, SECTION, lines)


def main() -> None:
    """Measure what is left, and print or publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--policy", default="builtin", help="default %(default)s")
    parser.add_argument("--episodes", type=int, default=20, help="per task; default %(default)s")
    parser.add_argument("--control_episodes", type=int, default=5, help="default %(default)s")
    parser.add_argument("--publish", action="store_true", help="write the model card")
    given = parser.parse_args()
    episodes = {**dict.fromkeys(CONTROLS, given.control_episodes), "none": given.episodes}
    measure(given.policy, episodes, given.output_dir)
    for suite in SUITES:
        print("\n".join(markdown(HEADER, rows(suite, read(given.output_dir, suite)))))
    if given.publish:
        command = command_line(ROOT)
        publish(given.output_dir, command)


if __name__ == "__main__":
    main()
