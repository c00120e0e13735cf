"""The comparison of ``objectives.py`` as a table, a picture and a section of docs/objectives.md."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.document import markdown, write_section
from benchmarks.job import ROOT
from benchmarks.measure import describe_machine
from pi0.ript.report.intervals import success_rate

DOCUMENT = ROOT / "docs" / "objectives.md"
PICTURE = ROOT / "docs" / "images" / "objectives.png"
SECTION = "comparison"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run, looked at after growing amounts of practice; the first entries are the base policy.

    Attributes:
        arm: What was compared.
        seed: The run's seed.
        env_steps: Simulator steps of practice until then.
        minutes: Minutes of practice and updates until then.
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
        """Return the minutes of practice and updates after some simulator steps."""
        return float(np.interp(env_steps, self.env_steps, self.minutes))


def table(curves: Sequence[Curve], env_steps: int) -> list[str]:
    """Return success before and after equal simulator steps as the lines of a table."""
    header = ["arm", "seeds", "base", f"after {env_steps:,} simulator steps", "of each seed",
              "area under the curve", "minutes"]  # fmt: skip
    rows: list[list[str]] = []
    for arm, mine in _by_arm(curves).items():
        after = [curve.at(env_steps) for curve in mine]
        area = statistics.fmean(_area(curve, env_steps) for curve in mine)
        minutes = statistics.fmean(curve.minutes_at(env_steps) for curve in mine)
        rows.append(
            [f"`{arm}`", ", ".join(str(curve.seed) for curve in mine), _base(mine),
             _interval(mine, env_steps), ", ".join(f"{100 * rate:.0f}" for rate in after),
             f"{100 * area:.0f}", f"{minutes:.1f}"]
        )  # fmt: skip
    return markdown(header, rows)


def _base(mine: Sequence[Curve]) -> str:
    rate = success_rate([outcome for curve in mine for outcome in curve.outcomes[0]])
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _interval(mine: Sequence[Curve], env_steps: int, num_draws: int = 2000) -> str:
    """Return the mean over seeds with a bootstrap interval that draws seeds, then their episodes."""
    draw = random.Random(0)
    means = sorted(
        statistics.fmean(_redrawn(draw.choice(mine), env_steps, draw) for _ in mine)
        for _ in range(num_draws)
    )
    low, high = means[int(0.025 * num_draws)], means[int(0.975 * num_draws)]
    rate = statistics.fmean(curve.at(env_steps) for curve in mine)
    return f"{100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def _redrawn(curve: Curve, env_steps: int, draw: random.Random) -> float:
    """Return success after some steps had other episodes been drawn, the same ones every time."""
    chosen = [draw.randrange(len(curve.outcomes[0])) for _ in curve.outcomes[0]]
    rates = [statistics.fmean(outcomes[n] for n in chosen) for outcomes in curve.outcomes]
    return float(np.interp(env_steps, curve.env_steps, rates))


def _area(curve: Curve, env_steps: int) -> float:
    """Return the mean success over the practice up to some simulator steps."""
    grid = np.linspace(0, env_steps, 101)
    return float(np.interp(grid, curve.env_steps, curve.success).mean())


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw held-out success over simulator steps and over minutes of practice and updates."""
    figure, (over_steps, over_time) = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for number, (arm, mine) in enumerate(_by_arm(curves).items()):
        for curve in mine:
            style = {"marker": "o", "markersize": 3, "alpha": 0.8, "color": f"C{number}"}
            label = arm if curve is mine[0] else None
            over_steps.plot(curve.env_steps, curve.success, label=label, **style)
            over_time.plot(curve.minutes, curve.success, **style)
    over_steps.set(xlabel="simulator steps of practice", ylabel="held-out success", ylim=(0, 1))
    over_time.set(xlabel="minutes of practice and updates")
    over_steps.legend(loc="lower right", fontsize=8)
    for axes in (over_steps, over_time):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def publish(curves: Sequence[Curve], env_steps: int, command: str) -> None:
    """Write the table and the picture into docs/objectives.md."""
    machine = describe_machine()
    num_episodes = len(curves[0].outcomes[0])
    lines = [
        f"Measured by `{command}` on {machine['cores']} cores ({machine['cpu']}), torch "
        f"{machine['torch']}: held-out success by ODE in percent, n = {num_episodes} per seed, the same "
        "episodes for every arm; 95 % intervals by bootstrap over seeds and episodes. *Area* is the mean "
        "success over the practice, *minutes* are those of practice and updates.",
        *table(curves, env_steps),
        "![held-out success of every arm and seed](images/objectives.png)",
    ]
    write_section(DOCUMENT, SECTION, lines)
    draw(curves, PICTURE)


def _by_arm(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    return {
        arm: [curve for curve in curves if curve.arm == arm]
        for arm in dict.fromkeys(curve.arm for curve in curves)
    }
