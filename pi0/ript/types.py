"""The records that flow through training. Plain numpy: simulator processes never import torch.

Shape legend: G groups, K rollouts per group, B samples (policy steps), N cameras, S denoise steps,
H actions per chunk, h executed actions, A model action dims.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pi0.records import Chunk, Observation
from pi0.ript.packed_frames import PackedFrames, VideoRate

Outcome = Literal["success", "failure", "crashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialState:
    """A situation in which a rollout begins: which task, which simulator state, which fixture poses.

    Example: ``InitialState(suite="libero_goal", task_id=7, index=3, fixture_seed=0, state=...)``.

    Attributes:
        suite: LIBERO suite name.
        task_id: Task number within the suite.
        index: Which of the suite's initial states; -1 for a state the caller brought.
        fixture_seed: Seeds the poses of fixtures (cabinet, stove), which ``state`` does not hold.
        state: float64 [n], flattened MuJoCo state (time, qpos, qvel).
    """

    suite: str
    task_id: int
    index: int
    fixture_seed: int
    state: NDArray[np.float64]

    @property
    def key(self) -> str:
        """Return a hash of the situation that is stable across processes and machines."""
        return self._hash(f"{self.suite}/{self.task_id}/{self.fixture_seed}/")

    @property
    def state_key(self) -> str:
        """Return the same of task and simulator state alone, wherever the fixtures stand."""
        return self._hash(f"{self.suite}/{self.task_id}/")

    def _hash(self, name: str) -> str:
        digest = hashlib.sha256(name.encode())
        digest.update(np.ascontiguousarray(self.state, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRequest:
    """One rollout to be done.

    Attributes:
        initial_state: Where it starts.
        seed: Every random draw of the episode derives from this number.
        max_steps: Control steps allowed after settling.
        group: Number of the group in its training step (request order).
        rollout: Number within the group, 0 .. K-1.
        record_video: Whether a video is made of it.
        video_rate: Which images the video has; those of ``steps`` are drawn for it alone.
    """

    initial_state: InitialState
    seed: int
    max_steps: int
    group: int = 0
    rollout: int = 0
    record_video: bool = False
    video_rate: VideoRate = "decisions"

    @property
    def records_every_step(self) -> bool:
        """Return whether an image is drawn after every control step."""
        return self.record_video and self.video_rate == "steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStep:
    """One observation, its action chunk, and its ``num_executed`` <= h control steps that were executed."""

    observation: Observation
    chunk: Chunk
    num_executed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One rollout from its initial state to success, the step limit or a crash.

    Attributes:
        request: The rollout that was requested.
        task: The instruction given to the policy.
        policy_steps: In order; holds only policy steps that were executed, never padding.
        outcome: ``success``, ``failure`` (step limit) or ``crashed`` (simulator; not a failure).
        num_steps: Control steps executed, settling not counted.
        error: The reason of a crash, else empty.
        frames: Images after every control step, by policy step, if ``request.records_every_step``
            and the simulator can; else empty.
        seconds: Wall time of its last attempt, which comparisons of episodes ignore.
    """

    request: EpisodeRequest
    task: str
    policy_steps: tuple[PolicyStep, ...]
    outcome: Outcome
    num_steps: int
    error: str = ""
    frames: tuple[PackedFrames, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def reward(self) -> float:
        """Return 1.0 for success and 0.0 for failure; a crashed episode has no reward."""
        assert self.outcome != "crashed", f"a crashed episode has no reward: {self.error}"
        return 1.0 if self.outcome == "success" else 0.0

    @property
    def actions_hash(self) -> str:
        """Return a hash of the executed actions, equal only if they are equal bit for bit."""
        digest = hashlib.sha256()
        for policy_step in self.policy_steps:
            digest.update(policy_step.chunk.actions[: policy_step.num_executed].tobytes())
        return digest.hexdigest()[:16]


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
    """One episode in plain values: what logs, evaluations and pages keep of it.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeGroup:
    """K rollouts of one initial state, in rollout order."""

    initial_state: InitialState
    episodes: tuple[Episode, ...]

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Return the rewards, float64 [K]."""
        return np.array([episode.reward for episode in self.episodes], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Policy steps of all accepted episodes, one sample each, ready to be scored.

    Attributes:
        observations: B observations.
        tasks: B instructions.
        chains: float32 [B, S + 1, H, A].
        advantages: float32 [B]: the advantage of the sample's episode.
        weights: float32 [B]: share of each sample in the loss; those of the new samples of all ranks sum to 1.
        is_success: bool [B]: whether the sample's episode succeeded.
        is_scored: bool [B, S]: which transitions were drawn with noise and so have a likelihood.
        num_executed: int64 [B], 1 to h: actions that were executed; fewer than h where the episode ended.
        groups: int64 [B], rising: number of the sample's group in its collection, over all ranks.
        seeds: int64 [B]: what the policy drew the sample's noise from.
        behavior_means: float32 [R, S, h, 7]: means of the transitions of the first R samples under the weights
            that drew them, which are replayed, see ``learner/replay.py``; None where no sample is.
        elapsed: float32 [B], in [0, 1): share of its step limit that the episode had used before the sample;
            0 begins an episode, whose samples follow each other.
    """

    observations: tuple[Observation, ...]
    tasks: tuple[str, ...]
    chains: NDArray[np.float32]
    advantages: NDArray[np.float32]
    weights: NDArray[np.float32]
    is_success: NDArray[np.bool_]
    is_scored: NDArray[np.bool_]
    num_executed: NDArray[np.int64]
    groups: NDArray[np.int64]
    seeds: NDArray[np.int64]
    behavior_means: NDArray[np.float32] | None = None
    elapsed: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def num_replayed(self) -> int:
        """Return R, how many of the first samples are of earlier training steps."""
        return 0 if self.behavior_means is None else len(self.behavior_means)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticStats:
    """What the critic made of a batch, over the policy steps of all ranks.

    Attributes:
        explained_variance: 1 - Var(outcome - value) / Var(outcome), of values that had not yet learned from these
            episodes; at most 1, and 0 for a constant. Outcomes are discounted rewards. None where all are alike.
        mean: Mean of those values.
        loss: Mean squared error of the last pass over the batch, halved.
        shift: Mean of how far an advantage is from what it is without the critic.
    """

    explained_variance: float | None
    mean: float
    loss: float
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one update did, as plain floats.

    Attributes:
        loss: Weighted loss of the first pass.
        kl: Mean exact Gaussian KL per (policy step, denoise step) between old and new policy at the end; None
            for objectives without likelihood, as are the next metric and ``log_ratio_max``.
        clip_fraction: Share of ratios outside the clip range, over all passes.
        grad_norm: Mean gradient norm before clipping.
        log_ratio_max: Largest |log ratio| before the first optimizer step; 0 if scoring is exact.
        num_optimizer_steps: Optimizer steps taken.
        lr_share: What of the learning rate they used, in (0, 1].
        has_stopped_early: Whether the KL bound ended the update.
        z_mean: Mean of (x_next - mean) / std over stored transitions at unchanged weights; about 0.
        z_variance: Variance of the same; about 1.
        off_mask_error: Largest distance of a stored entry without noise from its Euler step; about 0.
        rollout_log_ratio_mean: Mean log ratio of the trainer to the behavior weights, at unchanged weights,
            of the denoise step where it is furthest from 0; 0 if acting and scoring round alike.
        rollout_log_ratio_std: Its standard deviation, of the denoise step where that is largest.
        stale_kl: Mean exact KL per transition from the behavior weights to those before the update; None
            where they are the same.
        num_replayed: Samples of earlier training steps; None where there are none, like the next two.
        effective_samples: (sum w)^2 / (n sum w^2) over their n transitions, w what each one's advantage is
            multiplied by before the first optimizer step; 1 where all weigh the same.
        replay_kl: Mean exact KL per transition from the weights that drew them to those before the update.
        critic: What the critic made of the batch; None without one.
    """

    loss: float
    kl: float | None
    clip_fraction: float | None
    grad_norm: float
    log_ratio_max: float | None
    num_optimizer_steps: int
    lr_share: float
    has_stopped_early: bool
    z_mean: float
    z_variance: float
    off_mask_error: float
    rollout_log_ratio_mean: float
    rollout_log_ratio_std: float
    stale_kl: float | None = None
    num_replayed: int | None = None
    effective_samples: float | None = None
    replay_kl: float | None = None
    critic: CriticStats | None = None
