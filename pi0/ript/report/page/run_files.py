"""A run directory as plain values: configuration, figures, evaluations, launches."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.ript.config.load import RUN_CONFIG_NAME, read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.report.launches import Launch, read_launches


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutEpisode:
    """One held-out episode of an evaluation; ``identity`` pairs it with the same one of another."""

    suite: str
    task_id: int
    task: str
    state_index: int
    seed: int
    outcome: str
    num_steps: int

    @property
    def identity(self) -> tuple[str, int, int, int]:
        """Return what stays the same from evaluation to evaluation."""
        return self.suite, self.task_id, self.state_index, self.seed

    @property
    def task_label(self) -> str:
        """Return e.g. ``libero_goal/7 turn on the stove``."""
        return f"{self.suite}/{self.task_id} {self.task}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The held-out episodes after ``step``, and the card of the policy that ran them."""

    step: int
    policy: Mapping[str, object]
    episodes: tuple[HeldOutEpisode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What a run directory holds besides figures and practice episodes.

    Attributes:
        folder: The run directory.
        config: Its resolved configuration.
        evaluations: In the order of their steps.
        launches: Starts and resumes, in order.
    """

    folder: Path
    config: TrainConfig
    evaluations: tuple[Evaluation, ...]
    launches: tuple[Launch, ...]

    @property
    def video_folder(self) -> Path:
        """Return the folder of all films of the run."""
        return self.config.video.folder(self.folder)


def read_run(folder: Path) -> RunFiles:
    """Return what a run directory holds.

    Raises:
        ValueError: It is no run directory, or a file in it was not written by a run.
    """
    if not (folder / RUN_CONFIG_NAME).is_file():
        raise ValueError(
            f"{folder} is not a run directory, it has no {RUN_CONFIG_NAME}; give one, e.g. outputs/<run>"
        )
    return RunFiles(
        folder=folder,
        config=read_config(folder / RUN_CONFIG_NAME),
        evaluations=tuple(_read_evaluation(path) for path in evaluation_files(folder)),
        launches=tuple(read_launches(folder)),
    )


def evaluation_files(folder: Path) -> list[Path]:
    """Return the evaluation files of a run in the order of their steps."""
    files = [p for p in folder.glob("evaluations/step_*.json") if p.stem[5:].isdecimal()]
    return sorted(files, key=lambda path: int(path.stem[5:]))


def _read_evaluation(path: Path) -> Evaluation:
    content: dict[str, Any] = json.loads(path.read_text())
    names = HeldOutEpisode.__dataclass_fields__
    try:
        episodes = tuple(
            HeldOutEpisode(**{name: episode[name] for name in names})
            for episode in content["episodes"]
        )
        policy = content["policy"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an evaluation of a run: {error} is missing") from error
    return Evaluation(step=int(path.stem[5:]), policy=policy, episodes=episodes)
