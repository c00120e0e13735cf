"""Groups that are tried before they are needed change neither what is accepted nor what comes next."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.algo.selection import SolvedStates
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.types import Episode, EpisodeRequest, InitialState, Outcome
from tests.train.dealt_states import DealtStates, numbered_state

K = 2
Verdict = Callable[[EpisodeRequest], Outcome]


def _second_of_each(request: EpisodeRequest) -> Outcome:
    return "success" if request.rollout == 1 else "failure"


def _uniform_in(groups: set[int]) -> Verdict:
    return lambda request: "failure" if request.group in groups else _second_of_each(request)


def _run_with_spares(
    states: DealtStates, solved: SolvedStates, verdict: Verdict, *, slots: int, newest_first: bool
) -> Rollouts:
    """Finish requests with up to ``slots`` under way, spare ones where there are no others, until it is over."""
    algo = AlgoConfig(rloo_batch_size=K, demo_batch_size=3, max_sampling_attempts=4)
    sampling = DynamicSampling(states, lambda _: 60, algo, 42, "rollout", 1, selection=solved)
    under_way: list[EpisodeRequest] = []
    while not sampling.is_over:
        while len(under_way) < slots:
            request = sampling.next_request() or sampling.next_spare()
            if request is None:
                break
            under_way.append(request)
        request = under_way.pop(-1 if newest_first else 0)
        sampling.add(
            Episode(
                request=request, task="open", policy_steps=(), outcome=verdict(request), num_steps=1
            )
        )
    return sampling.result()


def _seeds(rollouts: Rollouts) -> list[list[int]]:
    return [[e.request.seed for e in group.episodes] for group in rollouts.groups]


class TestSpareGroups:
    """G = 3, K = 2; the states 0 to 4 come again and again, and state 3 is left out once."""

    @staticmethod
    def _collect(verdict: Verdict, **how: int) -> tuple[Rollouts, int, dict[str, int | float]]:
        def state_of(number: int) -> InitialState:
            return replace(numbered_state(number), state=np.full(3, float(number % 5)))

        states, solved = DealtStates(state_of), SolvedStates(2, {state_of(3).state_key: 1})
        rollouts = _run_with_spares(states, solved, verdict, **{"newest_first": False, **how})
        return rollouts, states.cursor, solved.counters()

    @pytest.mark.parametrize("slots", [2, 5, 8, 64])
    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize("uniform", [set(), {1}, {0, 2, 3, 5}, set(range(12))])
    def test_everything_is_as_without_them(self, slots: int, newest_first: bool, uniform: set[int]):
        verdict = _uniform_in(uniform)
        expected = self._collect(verdict, slots=1)
        assert expected[0].num_spare_episodes == 0

        rollouts, *dealt = self._collect(verdict, slots=slots, newest_first=newest_first)

        assert _seeds(rollouts) == _seeds(expected[0])
        plain = [replace(r, groups=(), num_spare_episodes=0) for r in (rollouts, expected[0])]
        assert plain[0] == plain[1]
        assert tuple(dealt) == expected[1:]

    def test_they_are_opened_while_half_of_all_groups_would_not_be_enough(self):
        # Nothing is known, so half of all groups count: six groups of two for three wanted, whatever is free.
        sampling = DynamicSampling(
            DealtStates(), lambda _: 60, AlgoConfig(rloo_batch_size=K, demo_batch_size=3), 42
        )
        needed = [sampling.next_request() for _ in range(3 * K)]
        assert None not in needed
        assert sampling.next_request() is None
        spare = [sampling.next_spare() for _ in range(3 * K + 1)]
        assert [request.group for request in spare if request] == [3, 3, 4, 4, 5, 5]
        assert spare[-1] is None

    def test_what_finished_in_vain_is_counted_and_nothing_else_counts_it(self):
        # The newest of all open groups finish first: 5, 4 and 3 in vain, then 2, 1 and 0.
        rollouts, *_ = self._collect(_second_of_each, slots=64, newest_first=True)
        assert rollouts.num_spare_episodes == 3 * K
        assert (rollouts.num_tried, rollouts.num_episodes) == (3, 3 * K)
        assert len(rollouts.records) == 3 * K

    def test_a_group_that_disagrees_already_counts_as_accepted(self):
        sampling = DynamicSampling(
            DealtStates(), lambda _: 60, AlgoConfig(rloo_batch_size=3, demo_batch_size=1), 42
        )
        for outcome in ("success", "failure"):
            request = sampling.next_request()
            sampling.add(
                Episode(request=request, task="open", policy_steps=(), outcome=outcome, num_steps=1)
            )
        assert sampling.next_request() is not None  # its third rollout
        assert sampling.next_spare() is None
