"""Compare the objectives: ``python benchmarks/objectives.py --output_dir DIR [--publish]``.

Every arm trains on the same task from the same policy with the same seeds until it has used the same number
of simulator steps, through the program that users run. Held-out success is measured every few steps. Several
calls with one folder add up, e.g. one for negative controls with ``--arms permuted flipped --seeds 0``. The
result is ``objectives.json`` and ``objectives.png``; an interrupted comparison continues where it was.
``--publish`` writes docs/results.md and its plot.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.job import ROOT
from benchmarks.objectives_report import Curve, draw, publish, table
from pi0.ript.atomic import write_atomically
from pi0.ript.report.jsonl import read_metrics

ARMS: dict[str, tuple[str, ...]] = {
    "flow_sde": (),
    # the preset's sampler with the optimizer settings of the other arms, so that only the rule differs
    "flow_sde one step": ("--algo.scored_steps=one",),
    "nft": ("--algo.objective=nft",),
    "cfg": ("--algo.objective=cfg",),
    "bc": ("--algo.objective=bc",),
    "parity": ("--algo.preset=parity",),
    # how the noise of rollouts matters to rules that need no likelihood
    "nft quiet": ("--algo.objective=nft", "--algo.noise.final_std=0.03"),
    "cfg noisy": ("--algo.objective=cfg", "--algo.noise.scale=0.5"),
    "bc noisy": ("--algo.objective=bc", "--algo.noise.scale=0.5"),
}
# Negative controls: the default rule with rewards that carry no signal, and with rewards for failure.
CONTROLS = ("permuted", "flipped")
STAGES = ("time/collect_s", "time/update_s")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared; the defaults are the comparison itself, anything smaller tries the script.

    Attributes:
        config: Configuration that all arms start from.
        arms: Names of arms.
        seeds: Run seeds.
        env_steps: Simulator steps of training after which the arms are compared, ascending; each arm
            trains as long as the last of them.
        evaluate_every: Training steps between two evaluations.
        episodes: Held-out episodes per evaluation.
        extra: Overrides for all arms, ``--key=VALUE``.
    """

    config: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    env_steps: tuple[int, ...]
    evaluate_every: int
    episodes: int
    extra: tuple[str, ...]


def train(settings: Settings, arm: str, seed: int, folder: Path) -> Curve:
    """Train until the simulator steps are used up; a run that was interrupted is continued."""
    num_steps = 0
    while True:
        runs = sorted(folder.glob("run_*"))
        curve = read_curve(runs[0], arm, seed) if runs else None
        if curve is not None and curve.env_steps[-1] >= settings.env_steps[-1]:
            return curve
        if runs:
            num_steps = max(num_steps, len(read_metrics(runs[0] / "metrics.jsonl")))
            num_steps -= num_steps % settings.evaluate_every
        num_steps += settings.evaluate_every
        where = ["--resume", str(runs[0])] if runs else ["--config_path", settings.config]
        overrides = () if runs else (f"--output_dir={folder}", "--exp_name=run", *ARMS.get(arm, ()))
        command = [sys.executable, "-m", *program(arm), *where, *overrides]
        if not runs:
            command += [
                f"--training.seed={seed}",
                f"--training.save_freq={settings.evaluate_every}",
                f"--evaluation.rollouts_per_task={settings.episodes}",
                "--training.target_success=null",
                *settings.extra,
            ]
        command.append(f"--training.num_train_steps={num_steps}")
        subprocess.run(command, check=True)


def program(arm: str) -> tuple[str, ...]:
    """Return the module that trains an arm, with its own argument."""
    if arm in CONTROLS:
        return "benchmarks.reward_controls", arm
    return ("pi0.ript.scripts.train_ript_pi0",)


def read_curve(run: Path, arm: str, seed: int) -> Curve:
    """Return the curve of a run directory."""
    env_steps, minutes = {0: 0}, {0: 0.0}
    elapsed_s = 0.0
    for step, line in enumerate(read_metrics(run / "metrics.jsonl"), start=1):
        elapsed_s += sum(float(line[stage] or 0) for stage in STAGES)
        env_steps[step] = int(line["train/num_env_steps"] or 0)
        minutes[step] = elapsed_s / 60
    evaluated = sorted(int(path.stem[5:]) for path in (run / "evaluations").glob("step_*.json"))
    return Curve(
        arm=arm,
        seed=seed,
        env_steps=[env_steps[step] for step in evaluated],
        minutes=[minutes[step] for step in evaluated],
        outcomes=[outcomes(run / "evaluations" / f"step_{step}.json") for step in evaluated],
    )


def folder_of(output: Path, arm: str, seed: int) -> Path:
    """Return where the runs of an arm and seed are kept."""
    return output / arm.replace(" ", "_") / f"seed_{seed}"


def finished(output: Path, env_steps: int) -> list[Curve]:
    """Return all runs of a folder that used their simulator steps, whichever call made them."""
    curves: list[Curve] = []
    for arm in (*ARMS, *CONTROLS):
        for run in sorted(folder_of(output, arm, 0).parent.glob("seed_*/run_*")):
            curve = read_curve(run, arm, int(run.parent.name.removeprefix("seed_")))
            if curve.env_steps and curve.env_steps[-1] >= env_steps:
                curves.append(curve)
    return curves


def outcomes(path: Path) -> list[bool]:
    """Return which episodes of an evaluation succeeded, without those that crashed."""
    found = [episode["outcome"] for episode in json.loads(path.read_text())["episodes"]]
    return [outcome == "success" for outcome in found if outcome != "crashed"]


def parse() -> tuple[argparse.Namespace, Settings]:
    """Return flags and settings; flags that are not known here are passed on to every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--config", default="pi0/ript/config/quickstart.yaml")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=[*ARMS, *CONTROLS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--env_steps", nargs="+", type=int, default=[30_000, 80_000])
    parser.add_argument("--evaluate_every", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--publish", action="store_true", help="write docs/results.md")
    given, extra = parser.parse_known_args()
    return given, Settings(
        config=given.config,
        arms=tuple(given.arms),
        seeds=tuple(given.seeds),
        env_steps=tuple(sorted(given.env_steps)),
        evaluate_every=given.evaluate_every,
        episodes=given.episodes,
        extra=tuple(extra),
    )


def main() -> None:
    """Run the chosen arms and write the comparison of all that the folder holds."""
    given, settings = parse()
    output: Path = given.output_dir
    for seed in settings.seeds:
        for arm in settings.arms:
            train(settings, arm, seed, folder_of(output, arm, seed))
    curves = finished(output, settings.env_steps[0])
    content = {"settings": asdict(settings), "curves": [asdict(curve) for curve in curves]}
    write_atomically(output / "objectives.json", json.dumps(content) + "\n")
    draw(curves, output / "objectives.png")
    print("\n".join(table(curves, settings.env_steps)))
    if given.publish:
        publish(curves, settings.env_steps, " ".join(["python", *_relative(sys.argv)]))


def _relative(words: list[str]) -> list[str]:
    """Return a command line as one would type it in the repository."""
    return [word.removeprefix(f"{ROOT}/") for word in words]


if __name__ == "__main__":
    main()
