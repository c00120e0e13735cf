"""One episode in plain values: what logs, evaluations and pages keep of it."""

from dataclasses import dataclass, field, replace

from pi0.ript.types import Episode

EpisodeKey = tuple[str, int, int, int, int]
"""Suite, task number, initial state, fixture seed and seed: what the episodes of two policies are paired by."""

_HELD_OUT_KEYS = (
    "suite", "task_id", "task", "state_index", "fixture_seed", "seed", "outcome", "num_steps",
    "num_decisions", "error", "seconds",
)  # fmt: skip
_ROLLOUT_KEYS = (
    "suite", "task_id", "task", "state_index", "fixture_seed", "group", "rollout", "outcome",
    "num_steps", "seed", "is_accepted", "actions_hash", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """An episode that was evaluated, or a rollout of a training step.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction given to the policy.
        state_index: Which of the task's initial states.
        seed: Of every random draw of the episode.
        outcome: ``success``, ``failure`` or ``crashed``, which is no failure.
        num_steps: Control steps executed.
        fixture_seed: Seeds the poses of fixtures; files from before it was written mean 0, the default then.
        num_decisions: Policy steps, under the name that files have for them.
        error: The reason of a crash, else empty.
        seconds: Wall time; differs every time, so records are equal without it.
        group: Number of the group in its training step; of rollouts only, as what follows.
        rollout: Number within the group.
        is_accepted: Whether the update learned from its group.
        actions_hash: Of all executed actions, so that runs can be compared action by action; logs of
            earlier runs have none.
    """

    suite: str
    task_id: int
    task: str
    state_index: int
    seed: int
    outcome: str
    num_steps: int
    fixture_seed: int = 0
    num_decisions: int = 0
    error: str = ""
    seconds: float = field(default=0.0, compare=False)
    group: int = 0
    rollout: int = 0
    is_accepted: bool = False
    actions_hash: str = ""

    @classmethod
    def of(cls, episode: Episode) -> "EpisodeRecord":
        """Return the record of an episode that was evaluated."""
        state = episode.request.initial_state
        return cls(
            suite=state.suite,
            task_id=state.task_id,
            task=episode.task,
            state_index=state.index,
            fixture_seed=state.fixture_seed,
            seed=episode.request.seed,
            outcome=episode.outcome,
            num_steps=episode.num_steps,
            num_decisions=len(episode.policy_steps),
            error=" ".join(episode.error.split()),
            seconds=episode.seconds,
        )

    @classmethod
    def of_rollout(cls, episode: Episode, *, is_accepted: bool) -> "EpisodeRecord":
        """Return the record of a rollout of a training step."""
        return replace(
            cls.of(episode),
            group=episode.request.group,
            rollout=episode.request.rollout,
            is_accepted=is_accepted,
            actions_hash=episode.actions_hash,
        )

    @property
    def key(self) -> EpisodeKey:
        """Return what identifies the episode among those of any policy."""
        return self.suite, self.task_id, self.state_index, self.fixture_seed, self.seed

    @property
    def state_key(self) -> tuple[str, int, int]:
        """Return suite, task number and initial state: what episodes share that resemble each other."""
        return self.suite, self.task_id, self.state_index

    @property
    def task_label(self) -> str:
        """Return e.g. ``libero_goal/7 turn on the stove``."""
        return f"{self.suite}/{self.task_id} {self.task}"

    @property
    def is_complete(self) -> bool:
        """Return whether the simulator lasted to the end of the episode."""
        return self.outcome != "crashed"

    @property
    def is_success(self) -> bool:
        """Return whether the task was solved."""
        return self.outcome == "success"

    def to_dict(self) -> dict[str, str | int | float]:
        """Return a held-out episode as files have it, ready for JSON."""
        return {key: getattr(self, key) for key in _HELD_OUT_KEYS}

    def repeatable(self) -> dict[str, str | int | float]:
        """Return a held-out episode as files have it, without what differs every time."""
        return {key: value for key, value in self.to_dict().items() if key != "seconds"}

    def to_line(self) -> dict[str, str | int | float]:
        """Return a rollout as a line of ``episodes.jsonl`` has it, ready for JSON."""
        return {key: getattr(self, key) for key in _ROLLOUT_KEYS}
