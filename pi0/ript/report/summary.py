"""The result of a run: success before and after on the same held-out episodes, and seconds by stage."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pi0.files import write_atomically
from pi0.ript.report.intervals import paired_change, success_rate

SUMMARY_NAME = "summary"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcomes:
    """Success of the same episodes of one task before and after training, in the same order.

    Example: ``TaskOutcomes(task="libero_goal/7 turn on the stove", states=(30,), base=(False,), trained=(True,))``.

    Attributes:
        task: Its name.
        states: In which initial state each episode began.
        base: Outcomes before training.
        trained: Outcomes after training.
    """

    task: str
    states: tuple[Hashable, ...]
    base: tuple[bool, ...]
    trained: tuple[bool, ...]


def summarize(tasks: Sequence[TaskOutcomes], seconds: Mapping[str, float]) -> dict[str, object]:
    """Return the summary as JSON-ready values.

    Args:
        tasks: At least one task with at least one episode; empty if evaluation was switched off.
        seconds: Seconds by stage of the run.
    """
    return {
        "tasks": {row.task: _comparison(row) for row in _with_all(tasks)},
        "seconds": dict(seconds),
    }


def summary_text(tasks: Sequence[TaskOutcomes], seconds: Mapping[str, float]) -> str:
    """Return the summary for a human."""
    lines: list[str] = []
    for row in _with_all(tasks):
        lines += [
            row.task,
            f"  base     {success_rate(row.base, row.states)}",
            f"  trained  {success_rate(row.trained, row.states)}",
            f"  change   {paired_change(row.base, row.trained, row.states)}",
        ]
    total = sum(seconds.values())
    lines.append(f"time {total:.0f} s")
    lines += [
        f"  {stage:<12}{spent:8.1f} s {spent / total:6.1%}"
        for stage, spent in sorted(seconds.items(), key=lambda item: -item[1])
        if total > 0
    ]
    return "\n".join(lines) + "\n"


def write_summary(
    run_dir: Path,
    tasks: Sequence[TaskOutcomes],
    seconds: Mapping[str, float],
    policy: Mapping[str, object],
    protocol: str,
) -> str:
    """Write ``summary.json`` and ``summary.txt`` into the run directory; return the text.

    Args:
        run_dir: The run.
        tasks: As for ``summarize``.
        seconds: As for ``summarize``.
        policy: The policy's card, which the outcomes depend on.
        protocol: What the episodes were, in words; stands above their rates.
    """
    text = (f"{protocol}\n" if tasks else "") + summary_text(tasks, seconds)
    content = summarize(tasks, seconds) | {"policy": policy, "protocol": protocol}
    data = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(run_dir / f"{SUMMARY_NAME}.json", data + "\n")
    write_atomically(run_dir / f"{SUMMARY_NAME}.txt", text)
    return text


def _with_all(tasks: Sequence[TaskOutcomes]) -> list[TaskOutcomes]:
    if len(tasks) < 2:
        return list(tasks)
    every = TaskOutcomes(
        task="all",
        states=tuple((task.task, state) for task in tasks for state in task.states),
        base=tuple(outcome for task in tasks for outcome in task.base),
        trained=tuple(outcome for task in tasks for outcome in task.trained),
    )
    return [*tasks, every]


def _comparison(row: TaskOutcomes) -> dict[str, object]:
    return {
        "base": asdict(success_rate(row.base, row.states)),
        "trained": asdict(success_rate(row.trained, row.states)),
        "change": asdict(paired_change(row.base, row.trained, row.states)),
    }
