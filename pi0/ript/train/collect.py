"""Practise: try initial states K times each until enough groups disagree with themselves."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from pi0.ript.algo.selection import MasteredStates, is_mixed
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.report.episode_log import EpisodeRow, episode_row
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeGroup, EpisodeRequest, InitialState

Source = Callable[[], EpisodeRequest | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection brought home.

    Attributes:
        groups: Accepted groups, in the order they were requested.
        num_tried: Groups tried.
        num_crashed: Groups dropped because a rollout could not be completed.
        ended_by: ``enough groups`` or ``attempt budget``.
        num_all_success: Tried groups in which every rollout succeeded.
        num_all_failure: Tried groups in which every rollout failed.
        num_episodes: Completed rollouts of all tried groups.
        num_successes: Successful ones among them.
        num_steps: Control steps of all of them.
        rows: Every rollout of all tried groups, in request order.
    """

    groups: tuple[EpisodeGroup, ...]
    num_tried: int
    num_crashed: int
    ended_by: Literal["enough groups", "attempt budget"]
    num_all_success: int
    num_all_failure: int
    num_episodes: int
    num_successes: int
    num_steps: int
    rows: tuple[EpisodeRow, ...] = ()

    @property
    def success_rate(self) -> float:
        """Return the share of successful rollouts over all tried groups."""
        return self.num_successes / max(1, self.num_episodes)

    @property
    def description(self) -> str:
        """Return what was tried and what came of it in one phrase."""
        return (
            f"ended by {self.ended_by}: {self.num_tried} groups tried, {len(self.groups)} accepted, "
            f"{self.num_all_success} succeeded throughout, {self.num_all_failure} failed throughout, "
            f"{self.num_crashed} crashed"
        )


class GroupCollector:
    """Decides which rollouts to request and which groups to accept.

    A further group is requested only while accepted and unfinished groups together are too few, and
    groups are numbered in request order. So neither the requests nor the accepted groups depend on
    which simulator finished first, and no group is tried in vain.
    """

    def __init__(
        self,
        next_state: Callable[[], InitialState],
        max_steps: Callable[[InitialState], int],
        algo: AlgoConfig,
        *seed_path: int | str,
        num_filmed: int = 0,
        mastered: MasteredStates | None = None,
    ) -> None:
        self._next_state = next_state
        self._max_steps = max_steps
        self._algo = algo
        self._seed_path = seed_path
        self._num_filmed = num_filmed  # groups, the first ones
        self._mastered = mastered or MasteredStates(num_skips=0)
        self._budget = algo.demo_batch_size * algo.max_sampling_attempts
        self._queue: list[EpisodeRequest] = []
        self._episodes: list[list[Episode]] = []

    def next_request(self) -> EpisodeRequest | None:
        """Return the next rollout to do, or None if nothing is to be done for now."""
        if not self._queue and self._wants_group():
            self._open_group()
        return self._queue.pop(0) if self._queue else None

    def add(self, episode: Episode) -> None:
        """Take a finished rollout."""
        self._episodes[episode.request.group].append(episode)

    def _wants_group(self) -> bool:
        tried = len(self._episodes)
        unfinished = sum(len(group) < self._algo.rloo_batch_size for group in self._episodes)
        hoped_for = unfinished + sum(self._is_accepted(group) for group in self._episodes)
        return hoped_for < self._algo.demo_batch_size and tried < self._budget

    def _is_accepted(self, group: list[Episode]) -> bool:
        if len(group) < self._algo.rloo_batch_size or _has_crash(group):
            return False
        return not self._algo.enable_dynamic_sampling or is_mixed([e.reward for e in group])

    def _open_group(self) -> None:
        state = self._next_state()
        while self._mastered.skips(state.key):  # bounded: every skip uses one of its skips up
            state = self._next_state()
        group = len(self._episodes)
        self._episodes.append([])
        self._queue = [
            EpisodeRequest(
                initial_state=state,
                seed=derive_seed(*self._seed_path, group, rollout),
                max_steps=self._max_steps(state),
                group=group,
                rollout=rollout,
                is_filmed=group < self._num_filmed,
            )
            for rollout in range(self._algo.rloo_batch_size)
        ]

    def result(self) -> Collection:
        """Return the collection once every requested rollout has been added."""
        accepted = [group for group in self._episodes if self._is_accepted(group)]
        complete = [group for group in self._episodes if group and not _has_crash(group)]
        rewards = [[episode.reward for episode in group] for group in complete]
        for group, outcomes in zip(complete, rewards, strict=True):
            self._mastered.add(group[0].request.initial_state.key, outcomes)
        done = [e for group in self._episodes for e in group if e.outcome != "crashed"]
        return Collection(
            groups=tuple(_as_group(group) for group in accepted),
            num_tried=len(self._episodes),
            num_crashed=sum(_has_crash(group) for group in self._episodes),
            ended_by=(
                "enough groups" if len(accepted) >= self._algo.demo_batch_size else "attempt budget"
            ),
            num_all_success=sum(min(outcomes) == 1.0 for outcomes in rewards),
            num_all_failure=sum(max(outcomes) == 0.0 for outcomes in rewards),
            num_episodes=len(done),
            num_successes=sum(episode.outcome == "success" for episode in done),
            num_steps=sum(episode.num_steps for episode in done),
            rows=tuple(
                episode_row(episode, is_accepted=self._is_accepted(group))
                for group in self._episodes
                for episode in _in_order(group)
            ),
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
            collector.add(episode)
            on_episode(episode)
    return collector.result()
