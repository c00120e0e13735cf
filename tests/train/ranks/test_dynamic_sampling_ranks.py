"""Ranks together try and accept the groups that one process would."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.algo.selection import SolvedStates
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.types import Episode, EpisodeRequest, InitialState, Outcome
from tests.ranks import run_ranks
from tests.train.dealt_states import DealtStates, numbered_state

ALGO = AlgoConfig(rloo_batch_size=2, demo_batch_size=6, max_sampling_attempts=3)
NUM_STATES = 5

Facts = tuple[int, ...]


def outcome(request: EpisodeRequest, uniform: frozenset[int], ending: Outcome) -> Outcome:
    """Let both rollouts of a uniform group end alike; of the others the second succeeds."""
    if request.group == 7:
        return "crashed"
    if request.group in uniform:
        return ending
    return "success" if request.rollout else "failure"


def collect(
    ranks: Ranks, uniform: frozenset[int], ending: Outcome, slots: int
) -> tuple[Rollouts, list[tuple[int, int]], int, dict[str, int]]:
    """Return the collection, (group, seed) of what this rank ran, states dealt and skips left."""
    tried: list[tuple[int, int]] = []

    def state_of(number: int) -> InitialState:
        return replace(numbered_state(number), state=np.full(2, float(number % NUM_STATES)))

    def run(source: Callable[[], EpisodeRequest | None]) -> Iterator[Episode]:
        under_way: list[EpisodeRequest] = []
        while True:
            while len(under_way) < slots and (request := source()) is not None:
                tried.append((request.group, request.seed))
                under_way.append(request)
            if not under_way:
                return
            request = under_way.pop(ranks.rank - 1 if under_way[1:] else 0)
            found = outcome(request, uniform, ending)
            yield Episode(
                request=request,
                task="open",
                policy_steps=(),
                outcome=found,
                num_steps=request.group,
            )

    states, solved = DealtStates(state_of, cursor=1), SolvedStates(2, {state_of(0).state_key: 2})
    collector = DynamicSampling(
        states, lambda _: 60, ALGO, 42, "rollout", len(uniform), slots,
        selection=solved, ranks=ranks,
    )  # fmt: skip
    for episode in run(collector.next_request):
        collector.add(episode)
    return collector.result(), tried, states.cursor, solved.counters()


@pytest.mark.parametrize(("world_size", "slots"), [(2, 1), (3, 8)])
@pytest.mark.parametrize(
    ("uniform", "ending"),
    [
        pytest.param(frozenset(), "failure", id="all-accepted"),
        pytest.param(frozenset({0, 2, 4, 6, 8, 9, 10}), "failure", id="one-rank-mostly-rejected"),
        # solved states are left out later, by every rank alike
        pytest.param(frozenset({0, 2, 4, 6, 8, 9, 10}), "success", id="one-rank-mostly-solved"),
        pytest.param(frozenset(range(30)), "failure", id="budget-exhausted"),
    ],
)
def test_the_union_over_ranks_is_what_one_process_practises(
    world_size: int, uniform: frozenset[int], ending: Outcome, slots: int
):
    expected, tried, num_dealt, skips = collect(SINGLE_PROCESS, uniform, ending, slots)

    results = run_ranks(world_size, collect, uniform, ending, slots)

    assert sorted(tried) == sorted(pair for _, some, _, _ in results for pair in some)
    for rank, (collection, some, dealt, left) in enumerate(results):
        assert {group % world_size for group, _ in some} <= {rank}, "a group was split or moved"
        assert figures(collection) == figures(expected)
        assert (dealt, left) == (num_dealt, skips)
    accepted = [group.episodes for collection, *_ in results for group in collection.groups]
    keys = sorted(episode.request.seed for group in accepted for episode in group)
    assert keys == sorted(e.request.seed for group in expected.groups for e in group.episodes)


def figures(collection: Rollouts) -> dict[str, object]:
    return {name: getattr(collection, name) for name in collection.__slots__ if name != "groups"}
