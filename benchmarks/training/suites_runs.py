"""The runs behind ``suites.py``: train a recipe through the users' program, evaluate, and keep every outcome."""

import json
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import evaluation_path, read_evaluation
from pi0.ript.evaluation.log import LOG_NAME, read_log
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.report.summary import SUMMARY_NAME

STAGES = ("time/collect_s", "time/update_s")
VARIANTS = ("lan", "object", "swap", "task")


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Episodes of one task under one policy, in the order of their keys.

    Attributes:
        states: In which initial state each began.
        successes: Which of them succeeded.
    """

    states: list[int]
    successes: list[bool]


ByTask = dict[str, Outcomes]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A policy on the held-out episodes that the run itself measures.

    Attributes:
        step: Training steps before.
        env_steps: Simulator steps of training before.
        minutes: Minutes of rollouts and updates before.
        tasks: Outcomes by task.
    """

    step: int
    env_steps: int
    minutes: float
    tasks: ByTask


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """All outcomes of one run.

    Attributes:
        suite: Which was practiced.
        seed: Of the run and of its held-out episodes.
        arm: ``practice``, or a negative control of ``reward_controls``.
        curve: What the run measured, the base policy first.
        base: The base policy on more episodes of every task; empty until they were run, as what follows.
        trained: The trained policy on the same episodes.
        variant_base: The base policy on LIBERO-PRO's variants of the tasks.
        variant_trained: The trained policy on the same episodes.
    """

    suite: str
    seed: int
    arm: str
    curve: list[Evaluated]
    base: ByTask
    trained: ByTask
    variant_base: ByTask
    variant_trained: ByTask

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Return the result whose ``asdict`` was written as JSON."""
        curve = [Evaluated(**{**one, "tasks": _by_task(one["tasks"])}) for one in plain["curve"]]
        parts = ("base", "trained", "variant_base", "variant_trained")
        return cls(**{**plain, "curve": curve, **{name: _by_task(plain[name]) for name in parts}})


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """Where one run is and what it does.

    Attributes:
        suite: LIBERO suite, which is the name of its recipe as well.
        seed: Of the run and of its held-out episodes.
        arm: ``practice``, or a negative control.
        label: What folder and tables call it instead, where its options are not the recipe's.
        options: Overrides of a new run.
        output: Folder of all runs.
    """

    suite: str
    seed: int
    arm: str
    options: tuple[str, ...]
    output: Path
    label: str = ""

    @property
    def folder(self) -> Path:
        """Return where the run and its evaluations are kept."""
        return self.output / self.suite / (self.label or self.arm) / f"seed_{self.seed}"

    @property
    def run(self) -> Path | None:
        """Return the run directory, None before it was begun."""
        return next(iter(sorted(self.folder.glob("run_*"))), None)

    @property
    def is_trained(self) -> bool:
        """Return whether the run came to its end."""
        return self.run is not None and (self.run / f"{SUMMARY_NAME}.json").is_file()

    def train(self) -> None:
        """Train to the end; an interrupted run is continued."""
        if self.is_trained:
            return
        program = "pi0.ript.scripts.train_ript_pi0"
        controls = (
            (program,) if self.arm == "practice" else ("benchmarks.reward_controls", self.arm)
        )
        where = ("--resume", str(self.run)) if self.run else self._beginning()
        subprocess.run([sys.executable, "-m", *controls, *where], check=True)

    def _beginning(self) -> tuple[str, ...]:
        recipe = f"pi0/ript/config/{self.suite}.yaml"
        flags = (f"--output_dir={self.folder}", "--exp_name=run", f"--training.seed={self.seed}")
        return ("--config_path", recipe, *flags, *self.options)

    def evaluate(self, episodes: int, variant_episodes: int) -> None:
        """Measure both policies on more episodes of the run's tasks, and on their variants; 0 leaves one out."""
        tasks = self.tasks()
        variants = [name.replace("/", f"_{variant}/") for name in tasks for variant in VARIANTS]
        for part, names, count in (("", tasks, episodes), ("variant_", variants, variant_episodes)):
            for who, policy in (("base", "builtin"), ("trained", self._policy())):
                if count:
                    self._evaluate(policy, names, count, self.folder / f"{part}{who}")

    def tasks(self) -> list[str]:
        """Return the run's tasks, e.g. ``libero_object/0``."""
        assert self.run is not None
        records = read_evaluation(evaluation_path(self.run, 0))
        return sorted({f"{record.suite}/{record.task_id}" for record in records})

    def _policy(self) -> str:
        return (
            str(self.folder / self.run.name / "checkpoints" / "last" / "pretrained_model")
            if self.run
            else ""
        )

    def _evaluate(self, policy: str, tasks: Sequence[str], episodes: int, folder: Path) -> None:
        command = [
            sys.executable, "-m", "pi0.ript.scripts.cli", "eval", "--policy", policy, "--suite", self.suite,
            "--tasks", *tasks, "--episodes", str(episodes), "--seed", str(self.seed), "--output_dir", str(folder),
        ]  # fmt: skip
        subprocess.run(command, check=True)

    def result(self) -> SuiteResult | None:
        """Return what was found so far, None before the run's first evaluation after practice."""
        if self.run is None or len(list((self.run / "evaluations").glob("step_*.json"))) < 2:
            return None
        more = {
            name: _outcomes(_logged(self.folder / name))
            for name in ("base", "trained", "variant_base", "variant_trained")
        }
        return SuiteResult(
            suite=self.suite,
            seed=self.seed,
            arm=self.label or self.arm,
            curve=_curve(self.run),
            **more,
        )


def merged(old: Sequence[SuiteResult], new: Sequence[SuiteResult]) -> list[SuiteResult]:
    """Return all results in order; a new one replaces the old one of its run."""
    found = {(result.suite, result.arm, result.seed): result for result in (*old, *new)}
    return [found[key] for key in sorted(found)]


def dump(results: Sequence[SuiteResult]) -> str:
    """Return results as JSON, a line per run."""
    lines = [json.dumps(asdict(result), separators=(",", ":")) for result in results]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def load(path: Path) -> list[SuiteResult]:
    """Return the results of a file, none if there is no file."""
    return (
        [SuiteResult.of(plain) for plain in json.loads(path.read_text())] if path.is_file() else []
    )


def _curve(run: Path) -> list[Evaluated]:
    lines = read_metrics(run / "metrics.jsonl")
    seconds = [sum(float(line[stage] or 0) for stage in STAGES) for line in lines]
    steps = sorted(
        int(path.stem.removeprefix("step_")) for path in (run / "evaluations").glob("step_*.json")
    )
    return [
        Evaluated(
            step=step,
            env_steps=int(lines[step - 1]["train/num_env_steps"] or 0) if step else 0,
            minutes=round(sum(seconds[:step]) / 60, 2),
            tasks=_outcomes(read_evaluation(evaluation_path(run, step))),
        )
        for step in steps
    ]


def _logged(folder: Path) -> list[EpisodeRecord]:
    log = folder / LOG_NAME
    return list(read_log(log)[1]) if log.is_file() else []


def _outcomes(records: Sequence[EpisodeRecord]) -> ByTask:
    """Return the outcomes by task, without crashed episodes."""
    tasks: dict[str, list[EpisodeRecord]] = {}
    for record in sorted(records, key=lambda record: record.key):
        if record.is_complete:
            tasks.setdefault(record.task_label, []).append(record)
    return {
        task: Outcomes(
            states=[record.state_index for record in some],
            successes=[record.is_success for record in some],
        )
        for task, some in tasks.items()
    }


def _by_task(plain: Mapping[str, Mapping[str, Any]]) -> ByTask:
    return {task: Outcomes(**outcomes) for task, outcomes in plain.items()}


def states_of(tasks: ByTask) -> list[Hashable]:
    """Return task and initial state of all episodes, in order."""
    return [(task, state) for task, found in tasks.items() for state in found.states]


def successes_of(tasks: ByTask) -> list[bool]:
    """Return which episodes of all tasks succeeded, in order."""
    return [success for found in tasks.values() for success in found.successes]
