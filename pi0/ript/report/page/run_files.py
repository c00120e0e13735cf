"""A run directory as plain values: configuration, evaluations, launches."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pi0.ript.config.load import read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.report.launches import Launch, read_launches
from pi0.ript.run_folder import RUN_CONFIG_NAME
from pi0.ript.types import EpisodeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The held-out episodes after ``step``, and the card of the policy that ran them."""

    step: int
    policy: Mapping[str, object]
    episodes: tuple[EpisodeRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What a run directory holds besides metrics and rollouts.

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
        """Return the folder of all videos of the run."""
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
    try:
        content = json.loads(path.read_text())
        episodes = tuple(EpisodeRecord(**episode) for episode in content["episodes"])
        return Evaluation(step=int(path.stem[5:]), policy=content["policy"], episodes=episodes)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"{path} is not an evaluation of a run ({reason})")
