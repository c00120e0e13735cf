"""From groups of episodes to the flat batch that an update works on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pi0.card import PolicyCard
from pi0.records import Chunk, Observation
from pi0.ript.config.sections import CfgConfig
from pi0.ript.seeding import derive_seed, noise_seed
from pi0.ript.types import Batch, Episode, EpisodeGroup

Aggregation = Literal["trajectory", "token"]
EVERY_POLICY_STEP = CfgConfig()


def window_indices(length: int, windows: CfgConfig, seed: int) -> NDArray[np.int64]:
    """Return indices of chosen policy steps, int64, in rising order.

    Args:
        length: Executed policy steps of the episode.
        windows: ``windowing_mode`` and its limits.
        seed: Of the episode; chooses under ``random``.
    """
    everything = np.arange(length)
    match windows.windowing_mode:
        case "all":
            return everything
        case "last":
            return everything[-1:]
        case "slide":
            return everything[:: windows.window_stride][: windows.max_windows_per_episode]
        case "random":
            rng = np.random.default_rng(derive_seed(seed, "windows"))
            count = min(length, windows.max_windows_per_episode)
            return np.sort(rng.choice(length, count, replace=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals of the accepted groups of all ranks; a sample's share of the loss depends on them.

    Attributes:
        num_episodes: Episodes.
        num_successes: Successful ones.
        num_with_signal: Episodes with at least one sample.
        num_samples: Samples.
    """

    num_episodes: int
    num_successes: int
    num_with_signal: int
    num_samples: int

    def num_shares(self, aggregation: Aggregation) -> int:
        """Return how many equal shares the loss has: one for every episode, or under ``token`` for every sample."""
        return self.num_samples if aggregation == "token" else self.num_with_signal


def count(groups: Sequence[EpisodeGroup], windows: CfgConfig = EVERY_POLICY_STEP) -> Totals:
    """Return the totals of some groups."""
    episodes = [episode for group in groups for episode in group.episodes]
    lengths = [len(_executed(episode, windows)) for episode in episodes]
    return Totals(
        num_episodes=len(episodes),
        num_successes=sum(episode.outcome == "success" for episode in episodes),
        num_with_signal=sum(length > 0 for length in lengths),
        num_samples=sum(lengths),
    )


def make_batch(
    groups: Sequence[EpisodeGroup],
    advantages: Tensor,
    aggregation: Aggregation,
    windows: CfgConfig = EVERY_POLICY_STEP,
    totals: Totals | None = None,
) -> Batch:
    """Return one sample per executed policy step, with its episode's advantage and its share of the loss.

    Args:
        groups: Accepted groups; a group with a crashed rollout must have been dropped before.
        advantages: float64 [G, K], of the rollouts of these groups.
        aggregation: ``trajectory`` gives every episode the same total weight, ``token`` every
            policy step. Failures run to the step limit and so have more policy steps: under ``token``
            they dominate.
        windows: Which policy steps of an episode become samples.
        totals: Of the groups of all ranks; None if these are all.

    Returns:
        The batch; samples are in group, rollout, policy step order and weights of all ranks sum to 1.

    Raises:
        ValueError: If there is no executed policy step, a group holds a crashed rollout or an action chunk was
            drawn without noise and so has no likelihood.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    _check(episodes)
    numbers = [_executed(episode, windows) for episode in episodes]
    lengths = np.array([len(chosen) for chosen in numbers])
    if lengths.sum() == 0:
        raise ValueError(
            "no executed policy step in any group: nothing to learn from; skip the update"
        )
    sources = [(e, n) for e, chosen in zip(episodes, numbers, strict=True) for n in chosen]
    samples = [episode.policy_steps[n] for episode, n in sources]
    totals = totals or count(groups, windows)
    return Batch(
        observations=tuple(sample.observation for sample in samples),
        tasks=tuple(episode.task for episode, _ in sources),
        chains=np.stack([sample.chunk.chain for sample in samples]),
        advantages=np.repeat(advantages.flatten().numpy(), lengths).astype(np.float32),
        weights=_weights(lengths, aggregation, totals),
        is_success=np.repeat([episode.reward > 0 for episode in episodes], lengths),
        is_scored=np.stack([scored_steps(sample.chunk) for sample in samples]),
        num_executed=np.array([sample.num_executed for sample in samples]),
        groups=np.repeat([episode.request.group for episode in episodes], lengths),
        seeds=np.array([noise_seed(episode.request.seed, n) for episode, n in sources]),
        elapsed=np.array([_elapsed(episode, n) for episode, n in sources], np.float32),
    )


def idle_batch(card: PolicyCard, num_steps: int) -> Batch:
    """Return one sample without weight, for a rank without groups that takes part in an update.

    Args:
        card: Of the policy.
        num_steps: S.
    """
    images = np.zeros((len(card.cameras), card.render_size, card.render_size, 3), np.uint8)
    upright = np.array(
        [0, 0, 0, 0, 0, 0, 1, 0, 0], np.float64
    )  # quaternion x, y, z, w in the middle
    chain_shape = (1, num_steps + 1, card.horizon, card.action_dim)
    return Batch(
        observations=(Observation(images=images, proprio=upright),),
        tasks=("",),
        chains=np.zeros(chain_shape, np.float32),
        advantages=np.zeros(1, np.float32),
        weights=np.zeros(1, np.float32),
        is_success=np.zeros(1, np.bool_),
        is_scored=np.ones((1, num_steps), np.bool_),
        num_executed=np.ones(1, np.int64),
        groups=np.zeros(1, np.int64),
        seeds=np.zeros(1, np.int64),
        elapsed=np.zeros(1, np.float32),
    )


def select(batch: Batch, batch_index: NDArray[np.int64]) -> Batch:
    """Return chosen samples, in the order of ``batch_index``, int64 [n], none of which is replayed."""

    def pick(values: Any) -> Any:
        is_tuple = isinstance(values, tuple)
        return tuple(values[index] for index in batch_index) if is_tuple else values[batch_index]

    return Batch(**{name: pick(values) for name, values in _by_sample(batch).items()})


def join(batches: Sequence[Batch]) -> Batch:
    """Return the samples of several batches, one batch after the other; those that are replayed come first."""

    def chain(parts: Sequence[Any]) -> Any:
        return sum(parts, ()) if isinstance(parts[0], tuple) else np.concatenate(parts)

    parts = [_by_sample(batch) for batch in batches]
    joined = Batch(**{name: chain([part[name] for part in parts]) for name in parts[0]})
    means = [batch.behavior_means for batch in batches if batch.behavior_means is not None]
    return replace(joined, behavior_means=np.concatenate(means) if means else None)


def _by_sample(batch: Batch) -> dict[str, Any]:
    """Return what a batch holds of every sample, by name."""
    names = [field.name for field in fields(batch) if field.name != "behavior_means"]
    return {name: getattr(batch, name) for name in names}


def scored_steps(chunk: Chunk) -> NDArray[np.bool_]:
    """Return which transitions of an action chunk were drawn with noise, bool [S]."""
    steps = np.arange(len(chunk.chain) - 1)
    is_noisy = steps == chunk.noisy_step if chunk.noisy_step is not None else steps >= 0
    return is_noisy & chunk.is_stochastic


def _executed(episode: Episode, windows: CfgConfig) -> list[int]:
    """Return which policy steps of an episode become samples."""
    executed = [
        n for n, policy_step in enumerate(episode.policy_steps) if policy_step.num_executed > 0
    ]
    chosen = window_indices(len(executed), windows, episode.request.seed)
    return [executed[index] for index in chosen]


def _elapsed(episode: Episode, number: int) -> float:
    """Return the share of its step limit that an episode had used before a policy step."""
    steps = episode.policy_steps[:number]
    return sum(step.num_executed for step in steps) / episode.request.max_steps


def _weights(
    lengths: NDArray[np.int64], aggregation: Aggregation, totals: Totals
) -> NDArray[np.float32]:
    if aggregation == "token":
        share = np.full(len(lengths), 1.0 / totals.num_samples)
    else:
        share = 1.0 / (totals.num_with_signal * np.maximum(lengths, 1))
    return np.repeat(share, lengths).astype(np.float32)


def _check(episodes: Sequence[Episode]) -> None:
    for episode in episodes:
        where = f"group {episode.request.group}, rollout {episode.request.rollout}"
        if episode.outcome == "crashed":
            raise ValueError(f"{where} crashed ({episode.error}): drop its group before batching")
        if any(not policy_step.chunk.is_stochastic for policy_step in episode.policy_steps):
            raise ValueError(
                f"{where} was drawn without noise: collect rollouts with algo.noise.scale > 0"
            )
