"""What the rollouts of a training step come to over all ranks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pi0.ript.config.algo import IMITATORS
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import Totals
from pi0.ript.types import EpisodeGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """What ranks send each other about a finished group, all whole numbers.

    Attributes:
        group: Its number, the same on every rank.
        is_accepted: Whether the update learns from it.
        num_successes: Rollouts that succeeded.
        num_failures: Rollouts that ran to the step limit.
        num_crashed: Rollouts that could not be completed.
        num_steps: Control steps of the completed ones.
        has_advantages: Whether its rollouts differ, or are compared with those of other groups (K = 1).
        num_with_signal: Episodes with at least one sample that has signal; 0 if rejected, like the next number.
        num_samples: Samples.
    """

    group: int
    is_accepted: bool
    num_successes: int
    num_failures: int
    num_crashed: int
    num_steps: int
    has_advantages: bool
    num_with_signal: int
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """The rollouts of a training step, and how they came about.

    Attributes:
        groups: This rank's accepted groups, in the order they were requested; the counts below are
            those of all ranks.
        group_size: K.
        totals: What the accepted groups come to.
        num_accepted: Groups accepted.
        num_with_advantages: Those of them whose advantages are not all 0.
        num_tried: Groups tried.
        num_crashed: Groups dropped because a rollout could not be completed.
        ended_by: ``enough groups`` or ``attempt budget``.
        num_all_success: Tried groups in which every rollout succeeded.
        num_all_failure: Tried groups in which every rollout failed.
        num_episodes: Completed rollouts of all tried groups.
        num_successes: Successful ones among them.
        num_steps: Control steps of all of them.
        records: Every rollout of all tried groups, in request order.
        cost: What they cost this rank's simulators and its policy.
        num_spare_episodes: Rollouts of this rank that finished and were not needed, see ``DynamicSampling``;
            no other number counts them but ``cost``.
        states: What is known of the candidates among initial states, by the name of the metric.
        seconds: Wall seconds they took.
        staleness: Updates that the weights that acted are behind those that learn from them.
    """

    groups: tuple[EpisodeGroup, ...]
    group_size: int
    totals: Totals
    num_accepted: int
    num_with_advantages: int
    num_tried: int
    num_crashed: int
    ended_by: Literal["enough groups", "attempt budget"]
    num_all_success: int
    num_all_failure: int
    num_episodes: int
    num_successes: int
    num_steps: int
    records: tuple[EpisodeRecord, ...] = ()
    cost: RolloutStats = field(default_factory=RolloutStats)
    num_spare_episodes: int = 0
    states: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0
    staleness: int = 0

    @property
    def rewards(self) -> Tensor:
        """Return the rewards of this rank's accepted groups, float64 [G, K]; G is 0 where it has none."""
        rewards = [group.rewards for group in self.groups]
        return torch.tensor(np.array(rewards)).reshape(len(rewards), self.group_size)

    def lr_share(self, algo: AlgoConfig) -> float:
        """Return what of the learning rate the update takes: groups that teach it something over groups wanted.

        Groups that ended alike teach imitators, and those that are compared with a critic's values alone; for
        the others they count as zeros in the mean.
        """
        has_values_alone = algo.critic == "value" and algo.value.baseline == "none"
        teaches_all = algo.objective in IMITATORS or has_values_alone
        num_groups = self.num_accepted if teaches_all else self.num_with_advantages
        return min(1.0, num_groups / algo.demo_batch_size)

    @property
    def mean_reward(self) -> float:
        """Return the mean reward of the accepted groups of all ranks; NaN where there are none."""
        episodes = self.totals.num_episodes
        return self.totals.num_successes / episodes if episodes else float("nan")

    @property
    def success_rate(self) -> float:
        """Return the share of successful rollouts over all tried groups."""
        return self.num_successes / max(1, self.num_episodes)

    @property
    def description(self) -> str:
        """Return what was tried and what came of it in one phrase."""
        return (
            f"ended by {self.ended_by}: {self.num_tried} groups tried, {self.num_accepted} accepted, "
            f"{self.num_all_success} succeeded throughout, {self.num_all_failure} failed throughout, "
            f"{self.num_crashed} crashed"
        )


def gather_facts(
    ranks: Ranks, facts: Sequence[GroupFacts], records: Sequence[EpisodeRecord]
) -> tuple[list[GroupFacts], tuple[EpisodeRecord, ...]]:
    """Return facts and records of the groups of all ranks in request order; a collective."""
    own = {
        "facts": [asdict(fact) for fact in facts],
        "records": [asdict(record) for record in records],
    }
    received = [json.loads(text) for text in ranks.gather_text(json.dumps(own))]
    all_facts = [GroupFacts(**fact) for one in received for fact in one["facts"]]
    all_records = [EpisodeRecord(**record) for one in received for record in one["records"]]
    return (
        sorted(all_facts, key=lambda fact: fact.group),
        tuple(sorted(all_records, key=lambda record: (record.group, record.rollout))),
    )


def summarize(
    groups: tuple[EpisodeGroup, ...],
    facts: Sequence[GroupFacts],
    records: tuple[EpisodeRecord, ...],
    algo: AlgoConfig,
) -> Rollouts:
    """Return this rank's groups with the counts of all ranks.

    Args:
        groups: Accepted groups of this rank.
        facts: Of the tried groups of all ranks.
        records: Of their episodes.
        algo: G and K.
    """
    complete = [fact for fact in facts if fact.num_crashed == 0]
    accepted = [fact for fact in facts if fact.is_accepted]
    successes = sum(fact.num_successes for fact in facts)
    return Rollouts(
        groups=groups,
        group_size=algo.rloo_batch_size,
        totals=Totals(
            num_episodes=sum(fact.num_successes + fact.num_failures for fact in accepted),
            num_successes=sum(fact.num_successes for fact in accepted),
            num_with_signal=sum(fact.num_with_signal for fact in accepted),
            num_samples=sum(fact.num_samples for fact in accepted),
        ),
        num_accepted=len(accepted),
        num_with_advantages=sum(fact.has_advantages for fact in accepted),
        num_tried=len(facts),
        num_crashed=len(facts) - len(complete),
        ended_by="enough groups" if len(accepted) >= algo.demo_batch_size else "attempt budget",
        num_all_success=sum(fact.num_failures == 0 for fact in complete),
        num_all_failure=sum(fact.num_successes == 0 for fact in complete),
        num_episodes=successes + sum(fact.num_failures for fact in facts),
        num_successes=successes,
        num_steps=sum(fact.num_steps for fact in facts),
        records=records,
    )
