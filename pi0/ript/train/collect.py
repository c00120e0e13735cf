"""Practise: try initial states K times each until enough groups disagree with themselves."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from pi0.ript.algo.selection import MasteredStates, is_mixed
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.alone import ALONE
from pi0.ript.film_strip import FilmRate
from pi0.ript.interfaces import Ranks
from pi0.ript.report.episode_log import episode_row
from pi0.ript.seeding import derive_seed
from pi0.ript.train.batch import count
from pi0.ript.train.collection import Collection, GroupFacts, gather_facts, summarise
from pi0.ript.types import Episode, EpisodeGroup, EpisodeRequest, InitialState

Source = Callable[[], EpisodeRequest | None]


class GroupCollector:
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
        num_filmed: int = 0,
        film_rate: FilmRate = "decisions",
        mastered: MasteredStates | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._next_state = next_state
        self._max_steps = max_steps
        self._algo = algo
        self._seed_path = seed_path
        self._num_filmed = num_filmed  # groups, the first ones
        self._film_rate: FilmRate = film_rate
        self._mastered = mastered or MasteredStates(num_skips=0)
        self._ranks = ranks
        self._tally = ranks.tally("/".join(map(str, seed_path)))
        self._budget = algo.demo_batch_size * algo.max_sampling_attempts
        self._states: list[InitialState] = []
        self._queue: list[EpisodeRequest] = []
        self._episodes: dict[int, list[Episode]] = {}

    def next_request(self) -> EpisodeRequest | None:
        """Return the next rollout to do, or None if nothing is to be done for now."""
        if not self._queue and self._may_open(self._next_group):
            self._open(self._next_group)
        return self._queue.pop(0) if self._queue else None

    def add(self, episode: Episode) -> None:
        """Take a finished rollout."""
        group = self._episodes[episode.request.group]
        group.append(episode)
        if len(group) == self._algo.rloo_batch_size:
            self._tally.add(is_rejected=not self._is_accepted(group))

    @property
    def _next_group(self) -> int:
        return self._ranks.rank + len(self._episodes) * self._ranks.world_size

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
        return any(len(group) < self._algo.rloo_batch_size for group in self._episodes.values())

    def _is_accepted(self, group: list[Episode]) -> bool:
        if _has_crash(group):
            return False
        return not self._algo.enable_dynamic_sampling or is_mixed([e.reward for e in group])

    def _state_of(self, group: int) -> InitialState:
        """Return where a group of any rank begins; states are dealt in group order."""
        while len(self._states) <= group:
            state = self._next_state()
            while self._mastered.skips(state.key):  # bounded: every skip uses one of its skips up
                state = self._next_state()
            self._states.append(state)
        return self._states[group]

    def _open(self, group: int) -> None:
        state = self._state_of(group)
        self._episodes[group] = []
        self._queue = [
            EpisodeRequest(
                initial_state=state,
                seed=derive_seed(*self._seed_path, group, rollout),
                max_steps=self._max_steps(state),
                group=group,
                rollout=rollout,
                is_filmed=group < self._num_filmed,
                film_rate=self._film_rate,
            )
            for rollout in range(self._algo.rloo_batch_size)
        ]

    def result(self) -> Collection:
        """Return the collection once every requested rollout has been added; all ranks meet here."""
        accepted = {n: group for n, group in self._episodes.items() if self._is_accepted(group)}
        groups = tuple(_as_group(group) for group in accepted.values())
        own = [self._facts(number, group) for number, group in self._episodes.items()]
        own_rows = [
            episode_row(episode, is_accepted=number in accepted)
            for number, group in self._episodes.items()
            for episode in group
        ]
        facts, rows = gather_facts(self._ranks, own, own_rows)
        for fact in facts:
            state = self._state_of(fact.group)
            if fact.num_crashed == 0:
                rewards = [1.0] * fact.num_successes + [0.0] * fact.num_failures
                self._mastered.add(state.key, rewards)
        return summarise(groups, facts, rows, num_wanted=self._algo.demo_batch_size)

    def _facts(self, number: int, episodes: list[Episode]) -> GroupFacts:
        outcomes = [episode.outcome for episode in episodes]
        is_accepted = self._is_accepted(episodes)
        rows = count([_as_group(episodes)] if is_accepted else [], self._algo.cfg)
        return GroupFacts(
            group=number,
            is_accepted=is_accepted,
            num_successes=outcomes.count("success"),
            num_failures=outcomes.count("failure"),
            num_crashed=outcomes.count("crashed"),
            num_steps=sum(e.num_steps for e in episodes if e.outcome != "crashed"),
            num_taught=rows.num_taught,
            num_rows=rows.num_rows,
        )


def _has_crash(group: list[Episode]) -> bool:
    return any(episode.outcome == "crashed" for episode in group)


def _as_group(episodes: list[Episode]) -> EpisodeGroup:
    ordered = _in_order(episodes)
    return EpisodeGroup(initial_state=ordered[0].request.initial_state, episodes=ordered)


def _in_order(episodes: list[Episode]) -> tuple[Episode, ...]:
    return tuple(sorted(episodes, key=lambda episode: episode.request.rollout))


def collect(
    run: Callable[[Source], Generator[Episode, None, None]],
    collector: GroupCollector,
    on_episode: Callable[[Episode], None],
) -> Collection:
    """Run the collector's requests to the end; ``run`` is a runner bound to its sampling."""
    with closing(run(collector.next_request)) as episodes:
        for episode in episodes:
            collector.add(replace(episode, strips=()))  # a film is not learned from
            on_episode(episode)
    return collector.result()
