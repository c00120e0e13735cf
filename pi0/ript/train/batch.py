"""From groups of episodes to the flat rows an update works on."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pi0.ript.algo.advantages import leave_one_out
from pi0.ript.types import Batch, Decision, Episode, EpisodeGroup

Aggregation = Literal["trajectory", "token"]


def make_batch(groups: Sequence[EpisodeGroup], aggregation: Aggregation) -> Batch:
    """Return one row per executed decision, with its episode's advantage and its share of the loss.

    Args:
        groups: Accepted groups; a group with a crashed rollout must have been dropped before.
        aggregation: ``trajectory`` gives every episode the same total weight, ``token`` every
            decision. Failures run to the step limit and so have more decisions: under ``token``
            they dominate.

    Returns:
        The batch; rows are in group, rollout, decision order and weights sum to 1.

    Raises:
        ValueError: If there is no executed decision, a group holds a crashed rollout or fewer than
            two rollouts, or a chunk was drawn without noise and so has no likelihood.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    _check(episodes)
    advantages = [leave_one_out(torch.from_numpy(g.rewards)[None])[0].numpy() for g in groups]
    executed = [_executed(episode) for episode in episodes]
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
        advantages=np.repeat(np.concatenate(advantages), lengths).astype(np.float32),
        weights=_weights(lengths, aggregation),
    )


def _executed(episode: Episode) -> list[Decision]:
    return [decision for decision in episode.decisions if decision.num_executed > 0]


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
            raise ValueError(
                f"{where} was drawn without noise: set algo.noise_scale > 0 to practise"
            )
