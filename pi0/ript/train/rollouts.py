"""Which rollouts a training step requests, which groups it accepts, and what they come to over all ranks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pi0.ript.algo.selection import SolvedStates, is_mixed
from pi0.ript.config.algo import IMITATORS, CfgConfig
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import Totals, count
from pi0.ript.packed_frames import VideoRate
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeGroup, EpisodeRecord, EpisodeRequest, InitialState


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
    seconds: float = 0.0
    staleness: int = 0

    @property
    def rewards(self) -> Tensor:
        """Return the rewards of this rank's accepted groups, float64 [G, K]; G is 0 where it has none."""
        rewards = [group.rewards for group in self.groups]
        return torch.tensor(np.array(rewards)).reshape(len(rewards), self.group_size)

    def lr_share(self, algo: AlgoConfig) -> float:
        """Return what of the learning rate the update takes: groups that teach it something over groups wanted.

        Groups without advantages teach imitators alone; for the others they count as zeros in the mean.
        """
        is_imitator = algo.objective in IMITATORS
        num_groups = self.num_accepted if is_imitator else self.num_with_advantages
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


@dataclass(slots=True, kw_only=True)
class _Group:
    """The rollouts of one initial state as they finish.

    Attributes:
        size: K.
        is_uniform_kept: Whether a group is accepted whose rollouts all ended alike.
        records: Of every rollout that has finished, in the order in which they did.
        rewards: Of those that did not crash.
        episodes: The same rollouts with all that they hold, images above all; none once the group is
            rejected, so that a collection holds G groups at most, however many it tries.
    """

    size: int
    is_uniform_kept: bool
    records: list[EpisodeRecord] = field(default_factory=list[EpisodeRecord])
    rewards: list[float] = field(default_factory=list[float])
    episodes: list[Episode] = field(default_factory=list[Episode])

    def add(self, episode: Episode) -> None:
        """Take a finished rollout."""
        self.records.append(EpisodeRecord.of_rollout(episode, is_accepted=False))
        if episode.outcome != "crashed":
            self.rewards.append(episode.reward)
        self.episodes.append(replace(episode, frames=()))  # nothing learns from videos
        if self.has_crash or (self.is_complete and not self.is_accepted):
            self.episodes.clear()

    @property
    def is_complete(self) -> bool:
        """Return whether all rollouts have finished."""
        return len(self.records) == self.size

    @property
    def has_crash(self) -> bool:
        """Return whether a rollout has crashed, which no later one can make up for."""
        return len(self.rewards) < len(self.records)

    @property
    def is_accepted(self) -> bool:
        """Return whether the update learns from the group; of a complete one."""
        return not self.has_crash and (self.is_uniform_kept or is_mixed(self.rewards))

    def in_order(self) -> EpisodeGroup:
        """Return the rollouts of an accepted group in the order of their numbers."""
        ordered = tuple(sorted(self.episodes, key=lambda episode: episode.request.rollout))
        return EpisodeGroup(initial_state=ordered[0].request.initial_state, episodes=ordered)

    def facts(self, number: int, windows: CfgConfig) -> GroupFacts:
        """Return what other ranks need to know of a complete group."""
        outcomes = [record.outcome for record in self.records]
        totals = count([self.in_order()] if self.is_accepted else [], windows)
        return GroupFacts(
            group=number,
            is_accepted=self.is_accepted,
            num_successes=outcomes.count("success"),
            num_failures=outcomes.count("failure"),
            num_crashed=outcomes.count("crashed"),
            num_steps=sum(record.num_steps for record in self.records if record.is_complete),
            has_advantages=self.size == 1 or is_mixed(self.rewards),
            num_with_signal=totals.num_with_signal,
            num_samples=totals.num_samples,
        )


class DynamicSampling:
    """Decides which rollouts to request and which groups to accept.

    Group n begins once fewer than G of the groups before it can still be accepted, that is, once
    n < G + the number of rejected groups. So neither the requests nor the accepted groups depend on
    which simulator finished first, and no group is tried in vain. Groups are dealt to ranks in turn:
    all ranks together try and accept the groups that one process would, and no group is split.
    """

    def __init__(
        self,
        next_state: Callable[[], InitialState],
        max_steps: Callable[[InitialState], int],
        algo: AlgoConfig,
        *seed_path: int | str,
        num_recorded: int = 0,
        video_rate: VideoRate = "decisions",
        solved: SolvedStates | None = None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self._next_state = next_state
        self._max_steps = max_steps
        self._algo = algo
        self._seed_path = seed_path
        self._num_recorded = num_recorded  # groups, the first ones
        self._video_rate: VideoRate = video_rate
        self._solved = solved or SolvedStates(num_skips=0)
        self._ranks = ranks
        self._tally = ranks.tally("/".join(map(str, seed_path)))
        self._budget = algo.demo_batch_size * algo.max_sampling_attempts
        self._states: list[InitialState] = []
        self._queue: list[EpisodeRequest] = []
        self._groups: dict[int, _Group] = {}

    def next_request(self) -> EpisodeRequest | None:
        """Return the next rollout to do, or None if nothing is to be done for now."""
        if not self._queue and self._may_open(self._next_group):
            self._open(self._next_group)
        return self._queue.pop(0) if self._queue else None

    def add(self, episode: Episode) -> None:
        """Take a finished rollout."""
        group = self._groups[episode.request.group]
        group.add(episode)
        if group.is_complete:
            self._tally.add(is_rejected=not group.is_accepted)

    @property
    def _next_group(self) -> int:
        return self._ranks.rank + len(self._groups) * self._ranks.world_size

    def _may_open(self, group: int) -> bool:
        """Return whether a group begins; waits for other ranks if we have nothing else to do."""
        while group < self._budget:
            finished, rejected = self._tally.read()
            wanted = self._algo.demo_batch_size + rejected
            if group < wanted:
                return True
            is_over = finished >= min(wanted, self._budget)
            if is_over or self._has_unfinished():
                return False
            self._tally.pause()
        return False

    def _has_unfinished(self) -> bool:
        return any(not group.is_complete for group in self._groups.values())

    def _state_of(self, group: int) -> InitialState:
        """Return where a group of any rank begins; states are dealt in group order."""
        while len(self._states) <= group:
            state = self._next_state()
            while self._solved.skips(
                state.state_key
            ):  # bounded: every skip uses one of its skips up
                state = self._next_state()
            self._states.append(state)
        return self._states[group]

    def _open(self, group: int) -> None:
        state = self._state_of(group)
        self._groups[group] = _Group(
            size=self._algo.rloo_batch_size,
            is_uniform_kept=not self._algo.enable_dynamic_sampling,
        )
        self._queue = [
            EpisodeRequest(
                initial_state=state,
                seed=derive_seed(*self._seed_path, group, rollout),
                max_steps=self._max_steps(state),
                group=group,
                rollout=rollout,
                record_video=group < self._num_recorded,
                video_rate=self._video_rate,
            )
            for rollout in range(self._algo.rloo_batch_size)
        ]

    def result(self) -> Rollouts:
        """Return the rollouts once every requested one has been added; a collective."""
        groups = tuple(group.in_order() for group in self._groups.values() if group.is_accepted)
        own = [group.facts(number, self._algo.cfg) for number, group in self._groups.items()]
        own_records = [
            replace(record, is_accepted=group.is_accepted)
            for group in self._groups.values()
            for record in group.records
        ]
        facts, records = gather_facts(self._ranks, own, own_records)
        for fact in facts:
            state = self._state_of(fact.group)
            if fact.num_crashed == 0:
                rewards = [1.0] * fact.num_successes + [0.0] * fact.num_failures
                self._solved.add(state.state_key, rewards)
        return summarize(groups, facts, records, self._algo)
