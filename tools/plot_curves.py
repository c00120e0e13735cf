"""Draw success over time of one or more runs: ``python tools/plot_curves.py RUN... --output FILE``.

Lines are training rollouts (with exploration noise); the points at both ends are the held-out evaluations.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from pi0.ript.report.intervals import success_rate
from pi0.ript.report.jsonl import read_metrics

STAGES = ("time/collect_s", "time/update_s")


def training_curve(run: Path) -> tuple[list[float], list[float]]:
    """Return minutes of training and success rate after every step."""
    minutes, success, elapsed_s = [], [], 0.0
    for line in read_metrics(run / "metrics.jsonl"):
        elapsed_s += sum(float(line[stage] or 0) for stage in STAGES)
        minutes.append(elapsed_s / 60)
        success.append(float(line["rollout/success_rate"] or 0))
    return minutes, success


def held_out(run: Path) -> list[Any]:
    """Return the held-out success rates before and after training."""
    paths = sorted((run / "evaluations").glob("step_*.json"), key=lambda p: int(p.stem[5:]))
    return [
        success_rate([episode["outcome"] == "success" for episode in episodes])
        for path in (paths[0], paths[-1])
        if (episodes := json.loads(path.read_text())["episodes"])
    ]


def draw(runs: list[Path], output: Path) -> None:
    """Draw all runs into one image."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for run in runs:
        seed = next(
            line.split(":")[1].strip()
            for line in (run / "config.yaml").read_text().splitlines()
            if line.strip().startswith("seed:")
        )
        minutes, success = training_curve(run)
        (line,) = axes.plot(minutes, success, linewidth=1, alpha=0.7, label=f"seed {seed}")
        for when, rate in zip((0.0, minutes[-1]), held_out(run), strict=True):
            error = [[rate.rate - rate.low], [rate.high - rate.rate]]
            axes.errorbar(when, rate.rate, error, fmt="o", capsize=3, color=line.get_color())
    axes.set(xlabel="minutes of training", ylabel="success", ylim=(0, 1))
    axes.set_title(
        "line: training rollouts with noise; points: held-out, ODE, 95 % interval", fontsize=9
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(output, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    draw(arguments.runs, arguments.output)
