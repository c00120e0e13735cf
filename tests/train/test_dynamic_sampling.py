"""Which rollouts a step requests, which groups it accepts, when it ends."""

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pi0.records import Chunk, Observation
from pi0.ript.algo.selection import SolvedStates
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.packed_frames import PackedFrames
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.types import Episode, EpisodeRequest, InitialState, Outcome, PolicyStep
from tests.train.dealt_states import DealtStates, numbered_state

K, G = 2, 2
Verdict = Callable[[EpisodeRequest], Outcome]


def _collector(**overrides: object) -> DynamicSampling:
    settings = {"rloo_batch_size": K, "demo_batch_size": G, "max_sampling_attempts": 3, **overrides}
    return DynamicSampling(DealtStates(), lambda _: 60, AlgoConfig(**settings), 42, "rollout", 1)


def _run(
    collector: DynamicSampling, verdict: Verdict, *, slots: int, newest_first: bool
) -> Rollouts:
    """Finish requests with up to ``slots`` under way, oldest or newest first."""

    def run(source: Callable[[], EpisodeRequest | None]) -> Iterator[Episode]:
        under_way: list[EpisodeRequest] = []
        while True:
            while len(under_way) < slots and (request := source()) is not None:
                under_way.append(request)
            if not under_way:
                return
            request = under_way.pop(-1 if newest_first else 0)
            yield Episode(
                request=request,
                task="turn on the stove",
                policy_steps=(),
                outcome=verdict(request),
                num_steps=10 * (request.group + 1),
            )

    return _collect(run, collector)


def _collect(
    run: Callable[[Callable[[], EpisodeRequest | None]], Iterator[Episode]],
    sampling: DynamicSampling,
) -> Rollouts:
    for episode in run(sampling.next_request):
        sampling.add(episode)
    return sampling.result()


def _second_of_each(request: EpisodeRequest) -> Outcome:
    return "success" if request.rollout == 1 else "failure"


def _uniform_in(groups: set[int]) -> Verdict:
    return lambda request: "failure" if request.group in groups else _second_of_each(request)


def test_mixed_groups_are_accepted_until_there_are_enough():
    result = _run(_collector(), _second_of_each, slots=8, newest_first=False)

    assert result.ended_by == "enough groups"
    assert (len(result.groups), result.num_tried, result.num_episodes) == (G, G, G * K)
    assert result.success_rate == 0.5
    # Group 0: 2 episodes of 10 steps; group 1: 2 of 20.
    assert result.num_steps == 60


def test_the_rollouts_of_a_group_share_the_state_and_differ_in_seed():
    result = _run(_collector(), _second_of_each, slots=1, newest_first=False)

    for group in result.groups:
        assert [e.request.rollout for e in group.episodes] == [0, 1]
        assert len({e.request.initial_state.index for e in group.episodes}) == 1
    seeds = {e.request.seed for group in result.groups for e in group.episodes}
    assert len(seeds) == G * K


def test_uniform_groups_are_rejected_and_replaced():
    # Groups 0 and 2 fail throughout, so groups 1 and 3 are taken.
    result = _run(_collector(), _uniform_in({0, 2}), slots=8, newest_first=False)

    assert [group.initial_state.index for group in result.groups] == [1, 3]
    assert result.num_tried == 4


def test_without_dynamic_sampling_uniform_groups_are_kept():
    collector = _collector(enable_dynamic_sampling=False)

    result = _run(collector, _uniform_in({0, 1}), slots=8, newest_first=False)

    assert [group.initial_state.index for group in result.groups] == [0, 1]


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_a_source_that_never_disagrees_ends_with_the_attempt_budget(outcome: Outcome):
    result = _run(_collector(), lambda _: outcome, slots=3, newest_first=True)

    # 3 attempts x 2 groups wanted.
    assert (result.num_tried, result.groups, result.ended_by) == (6, (), "attempt budget")


def test_a_crashed_rollout_drops_its_group_and_counts_as_neither_success_nor_failure():
    def verdict(request: EpisodeRequest) -> Outcome:
        return "crashed" if (request.group, request.rollout) == (0, 0) else _second_of_each(request)

    result = _run(_collector(), verdict, slots=8, newest_first=False)

    assert [group.initial_state.index for group in result.groups] == [1, 2]
    # 3 groups of 2, one rollout crashed.
    assert (result.num_crashed, result.num_episodes, result.num_successes) == (1, 5, 3)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("newest_first", [False, True])
def test_the_collection_depends_neither_on_slots_nor_on_who_finishes_first(
    slots: int, newest_first: bool
):
    verdict = _uniform_in({0, 3, 4})
    reference = _run(_collector(), verdict, slots=1, newest_first=False)

    result = _run(_collector(), verdict, slots=slots, newest_first=newest_first)

    assert _essence(result) == _essence(reference)


def _essence(result: Rollouts) -> tuple[object, ...]:
    seeds = [[e.request.seed for e in group.episodes] for group in result.groups]
    return seeds, result.num_tried, result.num_episodes, result.num_successes, result.num_steps


def test_no_group_is_tried_in_vain():
    """The last group tried is an accepted one, however many slots ask for work."""
    for slots in (1, 4, 16):
        result = _run(_collector(), _uniform_in({1}), slots=slots, newest_first=True)

        assert result.groups[-1].initial_state.index == result.num_tried - 1


def test_rollouts_of_the_first_groups_are_recorded_where_asked():
    collector = DynamicSampling(
        DealtStates(),
        lambda _: 60,
        AlgoConfig(rloo_batch_size=K, demo_batch_size=G),
        42,
        num_recorded=1,
    )
    requests = [collector.next_request() for _ in range(K * G)]
    assert [request.record_video for request in requests if request] == [True] * K + [False] * K


class TestWhatWasTried:
    @pytest.mark.parametrize(
        ("outcome", "phrase"),
        [
            ("success", "6 succeeded throughout, 0 failed throughout"),
            ("failure", "0 succeeded throughout, 6 failed throughout"),
        ],
    )
    def test_a_source_that_never_disagrees_says_why_nothing_was_accepted(
        self, outcome: Outcome, phrase: str
    ):
        result = _run(_collector(), lambda _: outcome, slots=3, newest_first=True)

        assert result.description == (
            f"ended by attempt budget: 6 groups tried, 0 accepted, {phrase}, 0 crashed"
        )

    def test_crashed_groups_are_neither(self):
        result = _run(_collector(), lambda _: "crashed", slots=3, newest_first=False)

        assert (result.num_all_success, result.num_all_failure, result.num_crashed) == (0, 0, 6)


def test_the_rollouts_of_a_group_share_the_draw_of_fixtures_and_groups_do_not():
    candidate = numbered_state(0)
    states = InitialStateSampler([candidate], "per_episode", seed=42)
    algo = AlgoConfig(rloo_batch_size=K, demo_batch_size=3, max_sampling_attempts=1)
    requested: list[tuple[int, int]] = []

    def verdict(request: EpisodeRequest) -> Outcome:
        requested.append((request.group, request.initial_state.fixture_seed))
        return _second_of_each(request)

    sampling = DynamicSampling(states, lambda _: 60, algo, 42)
    _run(sampling, verdict, slots=4, newest_first=True)

    assert len(requested) == 3 * K
    assert len(set(requested)) == len({fixtures for _, fixtures in requested}) == 3


class TestSolvedStates:
    """The toy source deals the states 0, 1, 2, ... over and over."""

    @staticmethod
    def _collect(solved: SolvedStates, num_states: int = 3) -> list[int]:
        def state_of(number: int) -> InitialState:
            index = number % num_states
            # Fixtures are drawn anew whenever a state comes again, and it stays the state that was solved.
            return InitialState(
                suite="s",
                task_id=0,
                index=index,
                fixture_seed=number,
                state=np.array([float(index)]),
            )

        algo = AlgoConfig(rloo_batch_size=K, demo_batch_size=3, max_sampling_attempts=1)
        collector = DynamicSampling(DealtStates(state_of), lambda _: 60, algo, 42, selection=solved)
        tried: list[int] = []

        def verdict(request: EpisodeRequest) -> Outcome:
            index = request.initial_state.index
            if request.rollout == 0:
                tried.append(index)
            return "success" if index == 1 else _second_of_each(request)

        _run(collector, verdict, slots=1, newest_first=False)
        return tried

    def test_a_solved_state_is_passed_over_the_given_number_of_times(self):
        solved = SolvedStates(num_skips=2)

        # State 1 is solved in the first collection. The second passes over it once to fill three groups
        # (0, 2, 0), the third once more; the fourth tries it again.
        tried = [self._collect(solved) for _ in range(4)]

        assert tried == [[0, 1, 2], [0, 2, 0], [0, 2, 0], [0, 1, 2]]

    def test_a_source_of_solved_states_only_still_deals(self):
        solved = SolvedStates(num_skips=3, skips_left={})
        for index in range(3):
            state = InitialState(
                suite="s", task_id=0, index=index, fixture_seed=0, state=np.array([float(index)])
            )
            solved.add(state.state_key, [1.0])

        assert self._collect(solved) == [0, 1, 2]
        assert not solved.skips("anything else")


def test_frames_of_videos_are_not_kept_for_learning():
    frames = PackedFrames.pack(np.zeros((2, 1, 2, 2, 3), np.uint8))
    collector = DynamicSampling(
        DealtStates(), lambda _: 60, AlgoConfig(rloo_batch_size=K, demo_batch_size=1), 42,
        num_recorded=1, video_rate="steps",
    )  # fmt: skip

    def run(source: Callable[[], EpisodeRequest | None]) -> Iterator[Episode]:
        while (request := source()) is not None:
            assert request.records_every_step
            yield Episode(
                request=request,
                task="turn on the stove",
                policy_steps=(),
                outcome=_second_of_each(request),
                num_steps=2,
                frames=(frames,),
            )

    collection = _collect(run, collector)

    assert [episode.frames for group in collection.groups for episode in group.episodes] == [()] * K


class TestShareOfTheLearningRate:
    """A step that has fewer groups to learn from than were wanted moves the policy less."""

    def _share(self, verdict: Verdict, **settings: object) -> float:
        algo = {"rloo_batch_size": K, "demo_batch_size": 4, "max_sampling_attempts": 1, **settings}
        result = _run(_collector(**algo), verdict, slots=8, newest_first=False)
        return result.lr_share(AlgoConfig(**algo))

    def test_it_is_accepted_over_wanted_groups(self):
        assert self._share(_second_of_each) == 1.0
        assert self._share(_uniform_in({0, 2, 3})) == 0.25

    def test_uniform_groups_that_are_kept_count_as_zeros_in_the_mean(self):
        kept = _uniform_in({0, 2, 3})
        assert self._share(kept, enable_dynamic_sampling=False) == 0.25

    def test_imitators_learn_from_uniform_groups_as_well(self):
        kept = _uniform_in({0, 2, 3})
        assert self._share(kept, enable_dynamic_sampling=False, objective="bc") == 1.0

    def test_without_siblings_every_group_counts(self):
        settings = {"enable_dynamic_sampling": False, "rloo_batch_size": 1}
        assert self._share(lambda _: "failure", **settings) == 1.0


@pytest.mark.parametrize("outcomes", [("failure", "failure"), ("failure", "crashed")])
def test_rejected_groups_drop_their_images_at_once(outcomes: tuple[Outcome, Outcome]):
    images: list[weakref.ref[np.ndarray]] = []
    collector = _collector()

    def finish(outcome: Outcome) -> None:
        request = collector.next_request()
        assert request is not None
        observation = Observation(images=np.zeros((1, 8, 8, 3), np.uint8), proprio=np.zeros(9))
        images.append(weakref.ref(observation.images))
        actions = np.zeros((1, 7), np.float32)
        chunk = Chunk(actions=actions, chain=np.zeros((2, 1, 7), np.float32), is_stochastic=True)
        collector.add(
            Episode(
                request=request,
                task="turn on the stove",
                policy_steps=(PolicyStep(observation=observation, chunk=chunk, num_executed=1),),
                outcome=outcome,
                num_steps=1,
            )
        )

    for outcome in (*outcomes, "failure", "success", "failure", "success"):  # G = K = 2
        finish(outcome)

    assert [image() is None for image in images] == [True, True] + [False] * 4
    rollouts = collector.result()
    assert [record.num_decisions for record in rollouts.records] == [1] * 6
    assert [record.is_accepted for record in rollouts.records] == [False] * 2 + [True] * 4
