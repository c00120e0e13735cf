import numpy as np
import pytest

from pi0.ript.seeding import derive_seed
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.types import InitialState


def candidates(count: int, task_id: int = 0) -> list[InitialState]:
    return [
        InitialState(
            suite="libero_goal",
            task_id=task_id,
            index=i,
            fixture_seed=0,
            state=np.full(3, float(i)),
        )
        for i in range(count)
    ]


def deal(sampler: InitialStateSampler, count: int) -> list[int]:
    return [sampler.next().index for _ in range(count)]


def test_every_candidate_is_dealt_once_per_epoch():
    order = deal(InitialStateSampler(candidates(7), "fixed", seed=1), 21)

    assert all(sorted(order[start : start + 7]) == list(range(7)) for start in (0, 7, 14))


def test_epochs_are_shuffled_anew():
    order = deal(InitialStateSampler(candidates(20), "fixed", seed=1), 40)

    assert order[:20] != order[20:]
    assert order[:20] != list(range(20))


def test_the_seed_decides_the_order_and_no_global_generator_does():
    np.random.seed(0)  # noqa: NPY002 - shows that the global generator has no say
    one = deal(InitialStateSampler(candidates(20), "fixed", seed=1), 30)
    np.random.seed(123)  # noqa: NPY002
    again = deal(InitialStateSampler(candidates(20), "fixed", seed=1), 30)

    assert one == again
    assert one != deal(InitialStateSampler(candidates(20), "fixed", seed=2), 30)


def test_tasks_of_the_same_size_take_part_in_every_round_in_an_order_of_chance():
    sampler = InitialStateSampler(
        [*candidates(10, task_id=1), *candidates(10, task_id=6), *candidates(10, task_id=7)],
        "fixed",
        seed=0,
    )
    rounds = [tuple(sampler.next().task_id for _ in range(3)) for _ in range(20)]

    assert all(sorted(one) == [1, 6, 7] for one in rounds)
    assert len(set(rounds)) > 2


def test_a_task_with_twice_as_many_states_takes_part_twice_as_often_all_along():
    sampler = InitialStateSampler(
        [*candidates(20, task_id=1), *candidates(10, task_id=6)], "fixed", seed=0
    )
    dealt = [sampler.next().task_id for _ in range(30)]

    assert all(sorted(dealt[start : start + 3]) == [1, 1, 6] for start in range(0, 30, 3))


def test_the_states_of_one_task_are_in_the_order_of_the_permutation():
    order = np.random.default_rng(derive_seed(4, "initial_states", 0)).permutation(9)

    assert deal(InitialStateSampler(candidates(9), "fixed", seed=4), 9) == list(order)


@pytest.mark.parametrize("stop", [0, 3, 7, 10, 14])
def test_it_continues_from_a_stored_position(stop: int):
    straight = deal(InitialStateSampler(candidates(7), "fixed", seed=5), 20)
    first = InitialStateSampler(candidates(7), "fixed", seed=5)
    deal(first, stop)

    resumed = InitialStateSampler(candidates(7), "fixed", seed=5, cursor=first.cursor)

    assert first.cursor == stop
    assert deal(resumed, 20 - stop) == straight[stop:]


def test_nothing_to_practise_is_an_error():
    with pytest.raises(ValueError, match="no initial state"):
        InitialStateSampler([], "fixed", seed=0)


def test_fixtures_are_drawn_anew_in_every_epoch_and_again_where_a_run_goes_on():
    def fixtures(cursor: int, count: int) -> list[tuple[int, int]]:
        sampler = InitialStateSampler(candidates(6), "per_episode", seed=5, cursor=cursor)
        dealt = [sampler.next() for _ in range(count)]
        return [(state.index, state.fixture_seed) for state in dealt]

    straight = fixtures(0, 18)

    assert len(set(straight)) == len({seed for _, seed in straight}) == 18
    assert fixtures(7, 11) == straight[7:]


def test_fixed_fixtures_stand_as_the_candidates_have_them():
    sampler = InitialStateSampler(candidates(6), "fixed", seed=5)

    assert {sampler.next().fixture_seed for _ in range(12)} == {0}
