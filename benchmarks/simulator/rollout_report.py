"""Where the core time of an episode goes, and the plot of the comparison."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

BARS = {
    "subproc": "SubprocVectorEnv\n2 x 256 px",
    "async": "AsyncVectorEnv\n2 x 256 px",
    "engine_exact": "this engine, exact\n2 x 256 px",
    "engine_fast": "this engine, fast\n2 x 256 px",
    "engine_quickstart": "this engine, fast\n1 x 96 px",
}


def shares(side: Any, limits: dict[str, Any], name: str) -> dict[str, float]:
    """Return percent of the cores' time by part of the work, from CPU seconds of the processes.

    The parts of the estimate are taken at their own cost; what was spent beyond them is shown
    beside it. Stages of workers are timed by the clock, so they are scaled to their CPU seconds.
    """
    job, result = side.job, side.result
    stages, cpu_s = result["stages"], result["cpu_s"]
    steps = sum(episode["num_steps"] for episode in result["episodes"])
    observations = sum(len(episode["policy_steps"]) for episode in result["episodes"])
    by_clock = {
        n: s for n, s in stages.items() if n.startswith("time/worker_") and n.endswith("_s")
    }
    scale = min(1.0, cpu_s["workers"] / sum(by_clock.values()))
    render, restore = (scale * stages[f"time/worker_{n}_s"] for n in ("render", "restore"))
    estimate = {
        "physics (estimate)": steps * limits["physics_s"],
        "images (estimate)": observations * limits["render_s"][name],
        "policy (estimate)": observations * limits["policy_s"],
    }
    check = steps * limits["check_s"]
    stepping = cpu_s["workers"] - render - restore - check - estimate["physics (estimate)"]
    total = job.num_workers * result["wall_s"]
    seconds = {
        **estimate,
        "images beyond the estimate": render - estimate["images (estimate)"],
        "success check": check,
        "controller, observables, messages": stepping,
        "restore": restore,
        "scheduler, policy beyond the estimate": cpu_s["policy"] - estimate["policy (estimate)"],
        "idle": total - cpu_s["workers"] - cpu_s["policy"],
    }
    return {part: 100.0 * value / total for part, value in seconds.items()}


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw episodes per minute of every side, with its estimate as a line."""
    rates, limits = found["episodes_per_minute"], found["limit_episodes_per_minute"]
    figure, axes = plt.subplots(figsize=(8, 4))
    values = [rates[name] for name in BARS]
    colors = ["tab:gray" if not name.startswith("engine") else "tab:blue" for name in BARS]
    axes.bar(range(len(BARS)), values, color=colors)
    for x, name in enumerate(BARS):
        estimate = limits.get(name.removeprefix("engine_"), 0.0)
        text = f"{rates[name]:.1f}\n({rates[name] / rates['subproc']:.1f} x)"
        axes.annotate(text, (x, max(rates[name], estimate)), ha="center", va="bottom")
        if estimate:
            axes.hlines(estimate, x - 0.4, x + 0.4, colors="tab:red", linestyles="--")
    axes.set_xticks(range(len(BARS)), list(BARS.values()), fontsize=8)
    axes.set(ylabel="whole episodes per minute", ylim=(0, 1.25 * max(*values, *limits.values())))
    axes.set_title("100 control steps, 2 simulator processes; red: estimate", fontsize=9)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
