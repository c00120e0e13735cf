"""A run directory as plain values: configuration, evaluations, launches."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pi0.ript.config.load import read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.episode_record import EpisodeKey, EpisodeRecord
from pi0.ript.report.episode_log import read_record
from pi0.ript.report.launches import Launch, read_launches
from pi0.ript.run_folder import RUN_CONFIG_NAME, SFT_NAME

MEND = "mend it or move it away"


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
        evaluations: Those that are whole, in the order of their steps.
        launches: Starts and resumes, in order.
        damage: What is wrong with files and lines that are left out, each in a few words.
        has_base: Whether the first of all evaluations is whole; nothing is compared with another one.
        request: What a fine-tuning on demonstrations was asked for; empty where the run practiced.
    """

    folder: Path
    config: TrainConfig
    evaluations: tuple[Evaluation, ...]
    launches: tuple[Launch, ...]
    damage: tuple[str, ...]
    has_base: bool
    request: Mapping[str, object]

    @property
    def video_folder(self) -> Path:
        """Return the folder of all videos of the run."""
        return self.config.video.folder(self.folder)


def read_run(folder: Path) -> RunFiles:
    """Return what a run directory holds.

    Raises:
        ValueError: It is no run directory, or its configuration cannot be read.
    """
    has_config = (folder / RUN_CONFIG_NAME).is_file()
    request = {} if has_config else _request(folder)
    if not has_config and not request:
        raise ValueError(
            f"{folder} is not a run directory, it has no {RUN_CONFIG_NAME}; give one, e.g. outputs/<run>"
        )
    evaluations, damage = _read_evaluations(folder)
    launches, damaged_launches = read_launches(folder)
    first = next(iter(evaluation_files(folder)), None)
    return RunFiles(
        folder=folder,
        config=read_config(folder / RUN_CONFIG_NAME) if has_config else TrainConfig(),
        evaluations=evaluations,
        launches=tuple(launches),
        damage=(*damage, *damaged_launches),
        has_base=first is not None and any(e.step == _step_of(first) for e in evaluations),
        request=request,
    )


def _request(folder: Path) -> Mapping[str, object]:
    """Return what a fine-tuning was asked for; nothing where the folder holds none."""
    path = folder / SFT_NAME
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); {MEND}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; {MEND}")
    return content


def evaluation_files(folder: Path) -> list[Path]:
    """Return the evaluation files of a run in the order of their steps."""
    files = [p for p in folder.glob("evaluations/step_*.json") if p.stem[5:].isdecimal()]
    return sorted(files, key=_step_of)


def _read_evaluations(folder: Path) -> tuple[tuple[Evaluation, ...], list[str]]:
    """Return the evaluations that are whole and of the same episodes, and what is wrong with the others."""
    whole: list[Evaluation] = []
    damage: list[str] = []
    for path in evaluation_files(folder):
        try:
            evaluation = _read_evaluation(path)
        except (ValueError, OSError) as error:
            damage.append(str(error))
            continue
        if whole and _keys(evaluation) != _keys(whole[0]):
            damage.append(f"{path} is of other episodes than that of step {whole[0].step}")
        else:
            whole.append(evaluation)
    return tuple(whole), damage


def _keys(evaluation: Evaluation) -> list[EpisodeKey]:
    return [episode.key for episode in evaluation.episodes]


def _step_of(path: Path) -> int:
    return int(path.stem[5:])


def _read_evaluation(path: Path) -> Evaluation:
    try:
        content = json.loads(path.read_text())
        episodes = tuple(read_record(episode) for episode in content["episodes"])
        return Evaluation(step=_step_of(path), policy=dict(content["policy"]), episodes=episodes)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"{path} is not an evaluation of a run ({reason})")
