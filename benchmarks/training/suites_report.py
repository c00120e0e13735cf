"""What ``suites.py`` found, as tables and plots in docs/results.md."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.parts.document import ROOT, markdown, write_section
from benchmarks.parts.measure import describe_machine
from benchmarks.training.suites_runs import (
    ByTask,
    Evaluated,
    Outcomes,
    SuiteResult,
    states_of,
    successes_of,
)
from pi0.ript.report.intervals import holm, paired_change, success_rate

DOCUMENT = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
SECTION = "suites"
PRACTICE = "practice"


def overview(results: Sequence[SuiteResult]) -> list[str]:
    """Return a table with a line per run: success before, on the way and after, on the run's own episodes."""
    most = max(len(result.curve) for result in results)
    on_the_way = [f"evaluation {number}" for number in range(1, most)]
    header = [
        "suite",
        "arm",
        "seed",
        "base",
        *on_the_way,
        "change, points",
        "n",
        "simulator steps",
        "minutes",
    ]
    return markdown(header, [_overview_row(result, most) for result in results])


def _overview_row(result: SuiteResult, most: int) -> list[str]:
    first, last = result.curve[0], result.curve[-1]
    later = [f"{_rate(one.tasks)} after {one.step} steps" for one in result.curve[1:]]
    rates = [_rate(first.tasks), *later]
    empty = [""] * (most - len(rates))
    return [
        f"`{result.suite}`", result.arm, str(result.seed), *rates, *empty, _change(first.tasks, last.tasks),
        str(len(successes_of(first.tasks))), f"{last.env_steps:,}", f"{last.minutes:.0f}",
    ]  # fmt: skip


def task_table(base: ByTask, trained: ByTask) -> list[str]:
    """Return a table with a line per task and one of all: both policies on the same episodes."""
    pairs = [(base[task].successes, trained[task].successes) for task in base]
    p_values = holm([paired_change(*pair).p_value for pair in pairs])
    header = ["task", "base", "trained", "change, points", "gained / lost", "p (Holm)", "n"]
    rows = [
        [f"`{task.partition(' ')[0]}`{task.partition(' ')[1]}{task.partition(' ')[2]}",
         *_pair({task: base[task]}, {task: trained[task]}), f"{p:.2g}", str(len(base[task].states))]
        for task, p in zip(base, p_values, strict=True)
    ]  # fmt: skip
    return markdown(header, [*rows, ["all", *_pair(base, trained), "", str(len(states_of(base)))]])


def together(results: Sequence[SuiteResult]) -> list[str]:
    """Return the tables of runs that differ in nothing but the seed: their episodes pooled, after every evaluation."""
    lines: list[str] = []
    for suite, arm in dict.fromkeys((result.suite, result.arm) for result in results):
        group = [one for one in results if (one.suite, one.arm) == (suite, arm)]
        steps = {tuple(evaluated.step for evaluated in one.curve) for one in group}
        if len(group) < 2 or len(steps) > 1:
            continue
        base, *later = [_pooled([one.curve[n].tasks for one in group]) for n in range(len(*steps))]
        seeds = ", ".join(str(one.seed) for one in group)
        for step, tasks in zip(steps.pop()[1:], later, strict=True):
            title = f"**{suite}, {arm}, seeds {seeds} together, after {step} steps**"
            lines += ["", title, *task_table(base, tasks)]
    return lines


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines of a page that a reader opens by their title."""
    return ["", "<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]


def _pooled(parts: Sequence[ByTask]) -> ByTask:
    return {
        task: Outcomes(
            states=[state for part in parts for state in part[task].states],
            successes=[success for part in parts for success in part[task].successes],
        )
        for task in parts[0]
    }


def variant_table(result: SuiteResult) -> list[str]:
    """Return a table with a line per variant of LIBERO-PRO, its tasks together."""
    suites = dict.fromkeys(task.partition("/")[0] for task in result.variant_base)
    rows = [
        [f"`{suite}`", *_pair(_of(suite, result.variant_base), _of(suite, result.variant_trained)),
         str(len(states_of(_of(suite, result.variant_base))))]
        for suite in suites
    ]  # fmt: skip
    return markdown(["variant", "base", "trained", "change, points", "gained / lost", "n"], rows)


def _of(suite: str, tasks: ByTask) -> ByTask:
    return {task: found for task, found in tasks.items() if task.startswith(f"{suite}/")}


def _pair(base: ByTask, trained: ByTask) -> list[str]:
    change = paired_change(successes_of(base), successes_of(trained), states_of(base))
    return [
        _rate(base),
        _rate(trained),
        _change(base, trained),
        f"{change.num_gained} / {change.num_lost}",
    ]


def _rate(tasks: ByTask) -> str:
    rate = success_rate(successes_of(tasks), states_of(tasks))
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _change(base: ByTask, trained: ByTask) -> str:
    change = paired_change(successes_of(base), successes_of(trained), states_of(base))
    difference, low, high = (100 * value for value in (change.difference, change.low, change.high))
    return f"{difference:+.0f} [{low:+.0f}, {high:+.0f}]"


def draw(results: Sequence[SuiteResult], path: Path) -> None:
    """Draw success over simulator steps, a panel per suite: tasks pale, the mean of all tasks bold."""
    suites = list(dict.fromkeys(result.suite for result in results))
    figure, panels = plt.subplots(
        1, len(suites), figsize=(4.6 * len(suites), 4), sharey=True, squeeze=False, layout="constrained"
    )  # fmt: skip
    for axes, suite in zip(panels[0], suites, strict=True):
        for number, result in enumerate(one for one in results if one.suite == suite):
            steps = [one.env_steps for one in result.curve]
            for task in result.curve[0].tasks:
                success = [_mean(one, task) for one in result.curve]
                axes.plot(steps, success, lw=0.8, alpha=0.25, color=f"C{number}")
            success = [statistics.fmean(successes_of(one.tasks)) for one in result.curve]
            label = f"{result.arm}, seed {result.seed}"
            axes.plot(steps, success, lw=2.2, marker="o", color=f"C{number}", label=label)
        axes.set(title=suite, xlabel="simulator steps of training", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0][0].set_ylabel("held-out success")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _mean(evaluated: Evaluated, task: str) -> float:
    return statistics.fmean(evaluated.tasks[task].successes)


def publish(results: Sequence[SuiteResult], command: str) -> None:
    """Write tables and the plot of all results into docs/results.md."""
    machine = describe_machine()
    lines = [
        "Held-out states, fixtures drawn per episode, the suite's limit, by ODE; the same episodes in every column "
        "of a line. Intervals are 95 % and know that episodes share initial states; *minutes* are those of rollouts "
        f"and updates. Every line was added by one call; the last one, on {machine['cores']} cores "
        f"({machine['cpu']}), torch {machine['torch']}, was `{command}`.",
        *overview(results),
        "![held-out success of every task and their mean](images/suites.png)",
        *together(results),
    ]
    for result in results:
        # without more episodes those of the run itself have to do
        base = result.base or result.curve[0].tasks
        trained = result.trained or result.curve[-1].tasks
        lines += folded(
            f"{result.suite}, {result.arm}, seed {result.seed}, task by task",
            task_table(base, trained),
        )
        if result.variant_base:
            lines += [f"The same policies on LIBERO-PRO's variants of {result.suite}:"]
            lines += variant_table(result)
    draw(results, IMAGES / "suites.png")
    write_section(DOCUMENT, SECTION, lines)
