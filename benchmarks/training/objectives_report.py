"""The comparison of ``objectives.py`` as a table, a plot and a section of docs/results.md."""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.parts.document import ROOT, markdown, write_section
from benchmarks.parts.measure import describe_machine
from pi0.ript.report.intervals import success_rate

DOCUMENT = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
SECTION = "comparison"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run, evaluated after growing amounts of training; the first entries are the base policy.

    Attributes:
        arm: What was compared.
        seed: The run's seed.
        env_steps: Simulator steps of training until then.
        minutes: Minutes of rollouts and updates until then.
        outcomes: Which held-out episodes succeeded, the same episodes every time.
    """

    arm: str
    seed: int
    env_steps: list[int]
    minutes: list[float]
    outcomes: list[list[bool]]

    @property
    def success(self) -> list[float]:
        """Return the success rates, in [0, 1]."""
        return [statistics.fmean(outcomes) for outcomes in self.outcomes]

    def at(self, env_steps: int) -> float:
        """Return success after some simulator steps, between two evaluations by straight line."""
        return float(np.interp(env_steps, self.env_steps, self.success))

    def minutes_at(self, env_steps: int) -> float:
        """Return the minutes of rollouts and updates after some simulator steps."""
        return float(np.interp(env_steps, self.env_steps, self.minutes))


def merged(old: Sequence[Curve], new: Sequence[Curve]) -> list[Curve]:
    """Return all curves, seeds of an arm together; a new one replaces the old one of its run."""
    found = {(curve.arm, curve.seed): curve for curve in (*old, *new)}
    arms = list(dict.fromkeys(arm for arm, _ in found))
    return [found[key] for key in sorted(found, key=lambda key: (arms.index(key[0]), key[1]))]


def table(curves: Sequence[Curve], points: Sequence[int]) -> list[str]:
    """Return success before and after equal simulator steps as the lines of a table.

    Args:
        curves: All that use at least the simulator steps of the first point.
        points: Simulator steps, ascending; an arm whose seeds did not all get there has no number.
    """
    after = [f"after {env_steps:,} steps, every seed" for env_steps in points]
    header = ["arm", "seeds", "base", *after, f"minutes to {points[0]:,}"]
    rows: list[list[str]] = []
    for arm, mine in _by_arm(curves).items():
        minutes = statistics.fmean(curve.minutes_at(points[0]) for curve in mine)
        seeds = ", ".join(str(curve.seed) for curve in mine)
        success = [_after(mine, env_steps) for env_steps in points]
        rows.append([f"`{arm}`", seeds, _base(mine), *success, f"{minutes:.1f}"])
    return markdown(header, rows)


def _base(mine: Sequence[Curve]) -> str:
    rate = success_rate([outcome for curve in mine for outcome in curve.outcomes[0]])
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _after(mine: Sequence[Curve], env_steps: int, num_draws: int = 2000) -> str:
    """Return the mean over seeds with a bootstrap interval that draws seeds, then their episodes."""
    if any(curve.env_steps[-1] < env_steps for curve in mine):
        return ""
    draw = random.Random(0)
    means = sorted(
        statistics.fmean(_redrawn(draw.choice(mine), env_steps, draw) for _ in mine)
        for _ in range(num_draws)
    )
    low, high = means[int(0.025 * num_draws)], means[int(0.975 * num_draws)]
    rates = [curve.at(env_steps) for curve in mine]
    seeds = ", ".join(f"{100 * rate:.0f}" for rate in rates)
    return f"{100 * statistics.fmean(rates):.0f} % [{100 * low:.0f}, {100 * high:.0f}]: {seeds}"


def _redrawn(curve: Curve, env_steps: int, draw: random.Random) -> float:
    """Return success after some steps had other episodes been drawn, the same ones every time."""
    chosen = [draw.randrange(len(curve.outcomes[0])) for _ in curve.outcomes[0]]
    rates = [statistics.fmean(outcomes[n] for n in chosen) for outcomes in curve.outcomes]
    return float(np.interp(env_steps, curve.env_steps, rates))


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw held-out success over simulator steps and over minutes: seeds pale, their mean bold."""
    figure, (over_steps, over_time) = plt.subplots(
        1, 2, figsize=(11, 4.8), sharey=True, layout="constrained"
    )
    for number, (arm, mine) in enumerate(_by_arm(curves).items()):
        color = f"C{number}"
        _lines(over_steps, [curve.env_steps for curve in mine], mine, color)
        _lines(over_time, [curve.minutes for curve in mine], mine, color)
        over_steps.plot([], [], color=color, label=arm)
    over_steps.set(xlabel="simulator steps of training", ylabel="held-out success", ylim=(0, 1))
    over_time.set(xlabel="minutes of rollouts and updates")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    for axes in (over_steps, over_time):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def _lines(
    axes: Axes, amounts: Sequence[Sequence[float]], mine: Sequence[Curve], color: str
) -> None:
    """Draw one arm, its mean as far as all of its seeds went."""
    for xs, curve in zip(amounts, mine, strict=True):
        axes.plot(xs, curve.success, marker="o", markersize=3, lw=1, alpha=0.3, color=color)
    grid = np.linspace(0, min(xs[-1] for xs in amounts), 101)
    each = [np.interp(grid, xs, curve.success) for xs, curve in zip(amounts, mine, strict=True)]
    axes.plot(grid, np.mean(each, axis=0), lw=2.2, color=color)


def publish(compared: Mapping[str, tuple[Sequence[Curve], Sequence[int]]], command: str) -> None:
    """Write tables and plots into docs/results.md.

    Args:
        compared: Curves of a task, and the simulator steps after which they are compared, by its name.
        command: What was typed.
    """
    machine = describe_machine()
    num_episodes = len(next(iter(compared.values()))[0][0].outcomes[0])
    lines = [
        f"Measured by calls like `{command}`, the last one on {machine['cores']} cores ({machine['cpu']}), torch "
        f"{machine['torch']}: held-out success by ODE in percent, n = {num_episodes} per seed, the same "
        "episodes for every arm; mean over seeds, 95 % interval by bootstrap over seeds and episodes, and "
        "every seed. *Steps* are simulator steps of training, *minutes* those of rollouts and updates.",
    ]
    for task, (curves, points) in compared.items():
        image = IMAGES / f"objectives_{task}.png"
        lines += ["", f"**{task}**", *table(curves, points)]
        lines += [f"![{task}: held-out success of every arm and seed](images/{image.name})"]
        draw(curves, image)
    write_section(DOCUMENT, SECTION, lines)


def _by_arm(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    return {
        arm: [curve for curve in curves if curve.arm == arm]
        for arm in dict.fromkeys(curve.arm for curve in curves)
    }
