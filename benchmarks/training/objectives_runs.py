"""The runs behind ``objectives.py``: train an arm through the users' program, evaluate its checkpoints, read its curve."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.training.objectives_report import Curve
from pi0.ript.evaluation.log import LOG_NAME, read_log
from pi0.ript.report.evaluation_report import RESULTS_NAME
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER

STAGES = ("time/collect_s", "time/update_s")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What arms train on.

    Attributes:
        name: In folders and tables.
        suite: LIBERO suite.
        task_id: Task number within the suite.
        overrides: What differs from the quickstart's configuration.
        env_steps: Simulator steps of training after which arms are compared, ascending; each arm trains as
            long as the last of them.
    """

    name: str
    suite: str
    task_id: int
    overrides: tuple[str, ...]
    env_steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One run of one arm: where it is and what it does.

    Attributes:
        task: What it trains on.
        name: Of the arm.
        seed: Of the run and of its held-out episodes.
        program: Module that trains, with its own arguments.
        options: Configuration and overrides of a new run.
        output: Folder of the comparison.
    """

    task: Task
    name: str
    seed: int
    program: tuple[str, ...]
    options: tuple[str, ...]
    output: Path

    @property
    def folder(self) -> Path:
        """Return where the run and its evaluations are kept."""
        return self.output / self.task.name / self.name.replace(" ", "_") / f"seed_{self.seed}"

    @property
    def base_folder(self) -> Path:
        """Return where the evaluation of the base policy is, one for all arms."""
        return self.output / self.task.name / "base" / f"seed_{self.seed}"

    @property
    def run(self) -> Path | None:
        """Return the run directory, None before it was begun."""
        return next(iter(sorted(self.folder.glob("run_*"))), None)

    def train(self) -> Path:
        """Train until the simulator steps are used up; an interrupted run is continued. Return its directory."""
        wanted = self.task.env_steps[-1]
        while True:
            used = simulator_steps(self.run) if self.run else []
            if self.run and used and used[-1] >= wanted:
                return self.run
            where = ("--resume", str(self.run)) if self.run else self._beginning()
            last = f"--training.num_train_steps={num_steps_for(used, wanted)}"
            subprocess.run([sys.executable, "-m", *self.program, *where, last], check=True)

    def _beginning(self) -> tuple[str, ...]:
        return (
            *self.options,
            f"--output_dir={self.folder}",
            "--exp_name=run",
            f"--training.seed={self.seed}",
            "--training.save_freq=1",
            "--training.keep_checkpoints=1000",
            "--training.target_success=null",
            "--evaluation.rollouts_per_task=1",  # checkpoints are evaluated on their own
        )

    def evaluate(self, policy: str, folder: Path, num_episodes: int) -> None:
        """Evaluate a policy on the held-out episodes, unless that is done."""
        if (folder / f"{RESULTS_NAME}.json").is_file():
            return
        command = [
            sys.executable, "-m", "pi0.ript.scripts.cli", "eval", "--policy", policy, "--suite", self.task.suite,
            "--tasks", str(self.task.task_id), "--episodes", str(num_episodes), "--seed", str(self.seed),
            "--output_dir", str(folder),
        ]  # fmt: skip
        subprocess.run(command, check=True)

    def measure(self, num_episodes: int) -> None:
        """Do what is left of training and evaluations."""
        run = self.train()
        self.evaluate("builtin", self.base_folder, num_episodes)
        for step in first_steps(simulator_steps(run), self.task.env_steps):
            policy = str(run / "checkpoints" / str(step) / POLICY_FOLDER)
            self.evaluate(policy, self._step_folder(step), num_episodes)

    def curve(self) -> Curve | None:
        """Return the curve of the run, None unless it was evaluated at every mark."""
        used = simulator_steps(self.run) if self.run else []
        if self.run is None or not used or used[-1] < self.task.env_steps[-1]:
            return None
        steps = first_steps(used, self.task.env_steps)
        folders = [self.base_folder, *map(self._step_folder, steps)]
        if not all((folder / f"{RESULTS_NAME}.json").is_file() for folder in folders):
            return None
        elapsed = [
            sum(float(line[stage] or 0) for stage in STAGES) / 60
            for line in read_metrics(self.run / "metrics.jsonl")
        ]
        return Curve(
            arm=self.name,
            seed=self.seed,
            env_steps=[0, *(used[step - 1] for step in steps)],
            minutes=[0.0, *(sum(elapsed[:step]) for step in steps)],
            outcomes=list(map(outcomes, folders)),
        )

    def _step_folder(self, step: int) -> Path:
        return self.folder / f"step_{step}"


def num_steps_for(used: Sequence[int], wanted: int) -> int:
    """Return the training steps to go to: enough if all cost what those so far did; at first two.

    Args:
        used: Simulator steps after each training step.
        wanted: Simulator steps.
    """
    return max(len(used) + 1, math.ceil(wanted / used[-1] * len(used))) if used else 2


def simulator_steps(run: Path) -> list[int]:
    """Return the simulator steps used after each training step of a run."""
    metrics = run / "metrics.jsonl"
    lines = read_metrics(metrics) if metrics.is_file() else []
    return [int(line["train/num_env_steps"] or 0) for line in lines]


def first_steps(used: Sequence[int], marks: Sequence[int]) -> list[int]:
    """Return for every mark the first training step (from 1) after which so many simulator steps were used."""
    return [1 + next(n for n, steps in enumerate(used) if steps >= mark) for mark in marks]


def outcomes(folder: Path) -> list[bool]:
    """Return which episodes of an evaluation succeeded, in the order of their keys, without those that crashed."""
    _, records = read_log(folder / LOG_NAME)
    complete = [record for record in records if record.is_complete]
    return [record.is_success for record in sorted(complete, key=lambda record: record.key)]
