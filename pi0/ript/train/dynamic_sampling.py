"""Which rollouts a training step requests, and which groups it accepts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from pi0.ript.algo.selection import SolvedStates, StateSelection, is_mixed
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.config.sections import CfgConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import count
from pi0.ript.packed_frames import VideoRate
from pi0.ript.seeding import derive_seed
from pi0.ript.train.rollouts import GroupFacts, Rollouts, gather_facts, summarize
from pi0.ript.types import Episode, EpisodeGroup, EpisodeRequest, InitialState


class StateOrder(Protocol):
    """An order of initial states that can be taken up again where it was; see ``InitialStateSampler``."""

    @property
    def cursor(self) -> int:
        """Return how many states have been taken."""
        ...

    @cursor.setter
    def cursor(self, num_taken: int) -> None: ...

    def next(self) -> InitialState:
        """Return the next state."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dealt:
    """The state of a group, and where the order of states and the selection stood after it."""

    state: InitialState
    cursor: int
    selection: Mapping[str, int | float]


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

    def chance(self, share: float) -> float:
        """Return how likely the group is accepted, where ``share`` of all groups are."""
        if self.is_complete or self.has_crash or self.is_uniform_kept:
            return float(self.is_accepted)
        return 1.0 if is_mixed(self.rewards) else share

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

    Group n is needed once fewer than G of the groups before it can still be accepted, that is, once
    n < G + the number of rejected groups. The step is over with the G-th accepted group, in the order of their
    numbers. So neither the accepted groups nor those that were tried before them depend on which simulator
    finished first.

    Where simulators would have nothing to do, ``next_spare`` opens the next group before it is needed, if
    those that are open will probably not be enough. What of them lies behind the last accepted group is
    dropped, and the order of initial states goes on as if it had not been tried.

    Groups are dealt to ranks in turn: all ranks together try and accept the groups that one process would, and
    no group is split. Several ranks open no group before it is needed.
    """

    def __init__(
        self,
        states: StateOrder,
        max_steps: Callable[[InitialState], int],
        algo: AlgoConfig,
        *seed_path: int | str,
        num_recorded: int = 0,
        video_rate: VideoRate = "decisions",
        selection: StateSelection | None = None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self._order = states
        self._max_steps = max_steps
        self._algo = algo
        self._seed_path = seed_path
        self._num_recorded = num_recorded  # groups, the first ones
        self._video_rate: VideoRate = video_rate
        self._selection = selection or SolvedStates(num_skips=0)
        self._ranks = ranks
        self._tally = ranks.tally("/".join(map(str, seed_path)))
        self._budget = algo.demo_batch_size * algo.max_sampling_attempts
        self._states: list[_Dealt] = []
        self._queue: list[EpisodeRequest] = []
        self._groups: dict[int, _Group] = {}

    def next_request(self) -> EpisodeRequest | None:
        """Return the next rollout to do, or None if nothing is to be done for now."""
        if not self._queue and self._may_open(self._next_group):
            self._open(self._next_group)
        return self._queue.pop(0) if self._queue else None

    def next_spare(self) -> EpisodeRequest | None:
        """Return a rollout that will probably be needed, or None."""
        if not self._queue and self._is_spare_wanted():
            self._open(self._next_group)
        return self._queue.pop(0) if self._queue else None

    def add(self, episode: Episode) -> None:
        """Take a finished rollout."""
        group = self._groups[episode.request.group]
        group.add(episode)
        if group.is_complete:
            self._tally.add(is_rejected=not group.is_accepted)

    @property
    def is_over(self) -> bool:
        """Return whether what is still under way is not needed; several ranks learn it by having nothing to do."""
        return self._ranks.world_size == 1 and self._num_tried is not None

    @property
    def _num_tried(self) -> int | None:
        """Return how many groups the step tries, None while that is open; in a process on its own."""
        num_accepted = 0
        for number, group in self._groups.items():
            if not group.is_complete:
                return None
            num_accepted += group.is_accepted
            if num_accepted == self._algo.demo_batch_size:
                return number + 1
        return self._budget if len(self._groups) == self._budget else None

    @property
    def _next_group(self) -> int:
        return self._ranks.rank + len(self._groups) * self._ranks.world_size

    def _may_open(self, group: int) -> bool:
        """Return whether a group is needed; waits for other ranks if we have nothing else to do."""
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

    def _is_spare_wanted(self) -> bool:
        if self._ranks.world_size > 1 or self._next_group >= self._budget or self.is_over:
            return False
        groups = self._groups.values()
        finished = [group.is_accepted for group in groups if group.is_complete]
        share = (sum(finished) + 1) / (len(finished) + 2)  # before anything is known, half of them
        expected = sum(group.chance(share) for group in groups)
        return expected < self._algo.demo_batch_size

    def _has_unfinished(self) -> bool:
        return any(not group.is_complete for group in self._groups.values())

    def _state_of(self, group: int) -> InitialState:
        """Return where a group of any rank begins; states are dealt in group order."""
        while len(self._states) <= group:
            state = self._order.next()
            while self._selection.skips(state.state_key):  # ends: see FLOOR, and skips are used up
                state = self._order.next()
            taken, selection = self._order.cursor, self._selection.counters()
            self._states.append(_Dealt(state=state, cursor=taken, selection=selection))
        return self._states[group].state

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
        """Return the rollouts once every one that is needed has been added; a collective."""
        num_spare = self._drop_spares() if self._ranks.world_size == 1 else 0
        groups = tuple(group.in_order() for group in self._groups.values() if group.is_accepted)
        own = [group.facts(number, self._algo.cfg) for number, group in self._groups.items()]
        own_records = [
            replace(record, is_accepted=group.is_accepted)
            for group in self._groups.values()
            for record in group.records
        ]
        facts, records = gather_facts(self._ranks, own, own_records)
        # All are dealt before anything is learned of them: what a rank has not dealt yet has to be what others dealt.
        states = [self._state_of(fact.group) for fact in facts]
        for fact, state in zip(facts, states, strict=True):
            if fact.num_crashed == 0:
                rewards = [1.0] * fact.num_successes + [0.0] * fact.num_failures
                self._selection.add(state.state_key, rewards)
        rollouts = summarize(groups, facts, records, self._algo)
        return replace(rollouts, num_spare_episodes=num_spare)

    def _drop_spares(self) -> int:
        """Forget the groups that were not needed and return how many of their rollouts had finished."""
        num_tried = self._num_tried
        assert num_tried is not None, "a rollout that is needed has not been added"
        spares = [self._groups.pop(number) for number in list(self._groups)[num_tried:]]
        if spares:
            del self._states[num_tried:]
            self._order.cursor = self._states[-1].cursor
            self._selection.restore(self._states[-1].selection)
        return sum(len(spare.records) for spare in spares)
