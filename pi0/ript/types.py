"""The records that flow through training. Plain numpy: simulator processes never import torch.

Shape legend: G groups, K rollouts per group, B samples (policy steps), N cameras, S denoise steps,
H actions per chunk, h executed actions, A model action dims.
"""

import hashlib
from dataclasses import dataclass, field
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
        is_success: bool [B]: whether the sample's episode was rewarded.
        is_scored: bool [B, S]: which transitions were drawn with noise and so have a likelihood.
        num_executed: int64 [B], 1 to h: actions that were executed; fewer than h where the episode ended.
        groups: int64 [B], rising: number of the sample's group in its collection, over all ranks.
        seeds: int64 [B]: what the policy drew the sample's noise from.
        behavior_means: float32 [R, S, h, 7]: means of the transitions of the first R samples under the weights
            that drew them, which are replayed, see ``learner/replay.py``; [R, 0, 0, 0] where the learning rule compares
            no likelihoods, None where no sample is replayed.
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
