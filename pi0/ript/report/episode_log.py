"""episodes.jsonl: every episode of practice, so that one can see which situations were mastered when."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pi0.ript.report.jsonl import JsonLines
from pi0.ript.types import Episode

EPISODES_NAME = "episodes.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """One episode of practice in plain values.

    Example: ``EpisodeRow(suite="libero_goal", task_id=7, task="turn on the stove", state_index=3,
    group=0, rollout=2, outcome="success", num_steps=61, seed=8123, is_accepted=True)``.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction given to the policy.
        state_index: Which of the suite's initial states.
        group: Position of the group in its collection.
        rollout: Position within the group.
        outcome: ``success``, ``failure`` or ``crashed``.
        num_steps: Control steps executed.
        seed: Every random draw of the episode derives from it.
        is_accepted: Whether the update learned from its group.
        actions_hash: Of all executed actions, so that runs can be compared action by action.
    """

    suite: str
    task_id: int
    task: str
    state_index: int
    group: int
    rollout: int
    outcome: str
    num_steps: int
    seed: int
    is_accepted: bool
    actions_hash: str = ""  # logs of earlier runs have none


def episode_row(episode: Episode, *, is_accepted: bool) -> EpisodeRow:
    """Return the row of an episode."""
    request, state = episode.request, episode.request.initial_state
    return EpisodeRow(
        suite=state.suite,
        task_id=state.task_id,
        task=episode.task,
        state_index=state.index,
        group=request.group,
        rollout=request.rollout,
        outcome=episode.outcome,
        num_steps=episode.num_steps,
        seed=request.seed,
        is_accepted=is_accepted,
        actions_hash=actions_hash(episode),
    )


def actions_hash(episode: Episode) -> str:
    """Return a hash of the executed actions, equal only if they are equal bit for bit."""
    digest = hashlib.sha256()
    for policy_step in episode.policy_steps:
        digest.update(policy_step.chunk.actions[: policy_step.num_executed].tobytes())
    return digest.hexdigest()[:16]


class EpisodeLog:
    """Appends the episodes of a step; a resumed run drops and repeats those after its checkpoint."""

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        """Open ``path`` and drop the lines of steps after ``last_step``."""
        self._lines = JsonLines(path, last_step=last_step)

    def log(self, step: int, rows: Sequence[EpisodeRow]) -> None:
        """Append the episodes of a step."""
        self._lines.append([{"step": step, **asdict(row)} for row in rows])

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
