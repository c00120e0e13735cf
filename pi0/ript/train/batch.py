"""From groups of episodes to the flat rows an update works on."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pi0.records import Chunk
from pi0.ript.algo.advantages import batch_mean, leave_one_out
from pi0.ript.algo.windows import window_indices
from pi0.ript.config.algo import CfgConfig
from pi0.ript.types import Batch, Decision, Episode, EpisodeGroup

Aggregation = Literal["trajectory", "token"]
EVERY_DECISION = CfgConfig()


def make_batch(
    groups: Sequence[EpisodeGroup],
    aggregation: Aggregation,
    windows: CfgConfig = EVERY_DECISION,
) -> Batch:
    """Return one row per executed decision, with its episode's advantage and its share of the loss.

    Args:
        groups: Accepted groups; a group with a crashed rollout must have been dropped before.
        aggregation: ``trajectory`` gives every episode the same total weight, ``token`` every
            decision. Failures run to the step limit and so have more decisions: under ``token``
            they dominate.
        windows: Which decisions of an episode become rows.

    Returns:
        The batch; rows are in group, rollout, decision order and weights sum to 1.

    Raises:
        ValueError: If there is no executed decision, a group holds a crashed rollout or a chunk was drawn
            without noise and so has no likelihood.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    _check(episodes)
    executed = [_executed(episode, windows) for episode in episodes]
    lengths = np.array([len(decisions) for decisions in executed])
    if lengths.sum() == 0:
        raise ValueError(
            "no executed decision in any group: nothing to learn from; skip the update"
        )
    rows = [decision for decisions in executed for decision in decisions]
    tasks = [e.task for e, decisions in zip(episodes, executed, strict=True) for _ in decisions]
    return Batch(
        observations=tuple(row.observation for row in rows),
        tasks=tuple(tasks),
        chains=np.stack([row.chunk.chain for row in rows]),
        advantages=np.repeat(_advantages(groups), lengths).astype(np.float32),
        weights=_weights(lengths, aggregation),
        is_success=np.repeat([episode.outcome == "success" for episode in episodes], lengths),
        is_scored=np.stack([scored_steps(row.chunk) for row in rows]),
    )


def scored_steps(chunk: Chunk) -> NDArray[np.bool_]:
    """Return which transitions of a chunk were drawn with noise, bool [S]."""
    steps = np.arange(len(chunk.chain) - 1)
    is_noisy = steps == chunk.noisy_step if chunk.noisy_step is not None else steps >= 0
    return is_noisy & chunk.is_stochastic


def _advantages(groups: Sequence[EpisodeGroup]) -> NDArray[np.float64]:
    """Return the advantages of all episodes in group, rollout order."""
    if all(len(group.episodes) == 1 for group in groups):
        rewards = torch.from_numpy(np.stack([group.rewards for group in groups]))
        return batch_mean(rewards)[:, 0].numpy()
    return np.concatenate(
        [leave_one_out(torch.from_numpy(group.rewards)[None])[0].numpy() for group in groups]
    )


def _executed(episode: Episode, windows: CfgConfig) -> list[Decision]:
    executed = [decision for decision in episode.decisions if decision.num_executed > 0]
    chosen = window_indices(len(executed), windows, episode.request.seed)
    return [executed[number] for number in chosen]


def _weights(lengths: NDArray[np.int64], aggregation: Aggregation) -> NDArray[np.float32]:
    if aggregation == "token":
        share = np.full(len(lengths), 1.0 / lengths.sum())
    else:
        share = 1.0 / (np.count_nonzero(lengths) * np.maximum(lengths, 1))
    return np.repeat(share, lengths).astype(np.float32)


def _check(episodes: Sequence[Episode]) -> None:
    for episode in episodes:
        where = f"group {episode.request.group}, rollout {episode.request.rollout}"
        if episode.outcome == "crashed":
            raise ValueError(f"{where} crashed ({episode.error}): drop its group before batching")
        if any(not decision.chunk.is_stochastic for decision in episode.decisions):
            raise ValueError(f"{where} was drawn without noise: practise with algo.noise.scale > 0")
