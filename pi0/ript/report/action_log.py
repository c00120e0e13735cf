"""``rollouts.jsonl``: the executed actions of rollouts, with which each can be re-played exactly and drawn afterwards.

A line takes about 11 kB for 300 control steps, a thousandth of the images.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.ript.config.schema import SavedRollouts
from pi0.ript.episode_record import EpisodeKey
from pi0.ript.report.jsonl import JsonLines, complete_lines, parse_line
from pi0.ript.types import Episode

ACTIONS_NAME = "rollouts.jsonl"
PATTERN = "rollouts*.jsonl"  # every rank has a file of its own
_KINDS = {
    "suite": str, "task_id": int, "task": str, "state_index": int, "fixture_seed": int, "seed": int,
    "settling_steps": int, "outcome": str, "actions": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollout:
    """What it takes to re-play an episode.

    Attributes:
        step: Training step; of a held-out episode of a run, that after which it was evaluated; 0 in ``ript eval``.
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction.
        state_index: Which of the task's initial states.
        fixture_seed: Seeds the poses of fixtures.
        seed: Of every random draw of the episode.
        settling_steps: Before the first action.
        is_success: Whether the last action solved the task.
        actions: float32 [T, 7], as executed.
    """

    step: int
    suite: str
    task_id: int
    task: str
    state_index: int
    fixture_seed: int
    seed: int
    settling_steps: int
    is_success: bool
    actions: NDArray[np.float32]

    @property
    def key(self) -> EpisodeKey:
        """Return what identifies the episode among those of any policy, as in its record."""
        return self.suite, self.task_id, self.state_index, self.fixture_seed, self.seed


Entry = Mapping[str, Any]
"""A line of the file."""

WANTED: Mapping[SavedRollouts, tuple[str, ...]] = {
    "none": (),
    "successes": ("success",),
    "all": ("success", "failure"),
}


def actions_name(rank: int) -> str:
    """Return the name of a rank's file."""
    return ACTIONS_NAME if rank == 0 else f"rollouts_{rank}.jsonl"


def evaluation_actions_name(step: int | str, rank: int) -> str:
    """Return the name of a rank's file of the evaluation after a training step, or after ``*`` any."""
    return f"rollouts_step_{step}_rank_{rank}.jsonl"


class ActionLog:
    """Appends the actions of episodes; a resumed run drops and repeats those after its checkpoint."""

    def __init__(
        self, path: Path, saved: SavedRollouts, settling_steps: int, *, last_step: int = 0
    ) -> None:
        """Open ``path``, unless nothing is saved, and drop the lines of steps after ``last_step``."""
        self._wanted, self._settling_steps = WANTED[saved], settling_steps
        self._lines = JsonLines(path, last_step=last_step) if self._wanted else None

    def entry(self, step: int, episode: Episode) -> Entry | None:
        """Return the line of an episode, None if it is none of those that are saved.

        A crashed one never is, nor one that ended before its first action.
        """
        if episode.outcome not in self._wanted or not episode.policy_steps:
            return None
        state = episode.request.initial_state
        actions = [
            each.chunk.actions[: each.num_executed].astype("<f4") for each in episode.policy_steps
        ]
        return {
            "step": step,
            "suite": state.suite,
            "task_id": state.task_id,
            "task": episode.task,
            "state_index": state.index,
            "fixture_seed": state.fixture_seed,
            "seed": episode.request.seed,
            "settling_steps": self._settling_steps,
            "outcome": episode.outcome,
            "actions": base64.b64encode(np.concatenate(actions).tobytes()).decode(),
        }

    def append(self, entries: Iterable[Entry | None]) -> None:
        """Write lines.

        Raises:
            OSError: They could not be written; the file ends with the line before.
        """
        lines = [entry for entry in entries if entry is not None]
        if self._lines is not None and lines:
            self._lines.append(lines)

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()


def read_rollouts(folder: Path) -> list[StoredRollout]:
    """Return the rollouts that a run or an evaluation saved, in the order of files and lines; a repeated one once.

    Raises:
        FileNotFoundError: It saved none.
        ValueError: A line is damaged.
    """
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no {PATTERN}; run with --rollouts.save successes, or ript eval --save_rollouts successes"
        )
    found = [
        parse_line(path, number, line, _parse)
        for path in paths
        for number, line in enumerate(complete_lines(path), 1)
    ]
    return list({(r.step, r.suite, r.task_id, r.seed): r for r in found}.values())


def _parse(content: Mapping[str, Any]) -> StoredRollout:
    for name, kind in _KINDS.items():
        if type(content[name]) is not kind:
            raise ValueError(f"{name} {content[name]!r:.40}")
    data = base64.b64decode(content["actions"], validate=True)
    actions = np.frombuffer(data, "<f4").reshape(-1, 7)
    if not len(actions) or not np.isfinite(actions).all():
        raise ValueError("actions that are no numbers")
    values = {name: content[name] for name in _KINDS if name not in ("outcome", "actions")}
    return StoredRollout(
        **values,
        step=content["step"],
        is_success=content["outcome"] == "success",
        actions=actions,
    )
