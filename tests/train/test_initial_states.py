import numpy as np
import pytest

from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.types import InitialState


def candidates(count: int) -> list[InitialState]:
    return [
        InitialState(
            suite="libero_goal", task_id=0, index=i, fixture_seed=0, state=np.full(3, float(i))
        )
        for i in range(count)
    ]


def deal(sampler: InitialStateSampler, count: int) -> list[int]:
    return [sampler.next().index for _ in range(count)]


def test_every_candidate_is_dealt_once_per_epoch():
    order = deal(InitialStateSampler(candidates(7), seed=1), 21)

    assert all(sorted(order[start : start + 7]) == list(range(7)) for start in (0, 7, 14))


def test_epochs_are_shuffled_anew():
    order = deal(InitialStateSampler(candidates(20), seed=1), 40)

    assert order[:20] != order[20:]
    assert order[:20] != list(range(20))


def test_the_seed_decides_the_order_and_no_global_generator_does():
    np.random.seed(0)  # noqa: NPY002 - shows that the global generator has no say
    one = deal(InitialStateSampler(candidates(20), seed=1), 30)
    np.random.seed(123)  # noqa: NPY002
    again = deal(InitialStateSampler(candidates(20), seed=1), 30)

    assert one == again
    assert one != deal(InitialStateSampler(candidates(20), seed=2), 30)


@pytest.mark.parametrize("stop", [0, 3, 7, 10, 14])
def test_it_continues_from_a_stored_position(stop: int):
    straight = deal(InitialStateSampler(candidates(7), seed=5), 20)
    first = InitialStateSampler(candidates(7), seed=5)
    deal(first, stop)

    resumed = InitialStateSampler(candidates(7), seed=5, position=first.position)

    assert first.position == stop
    assert deal(resumed, 20 - stop) == straight[stop:]


def test_nothing_to_practise_is_an_error():
    with pytest.raises(ValueError, match="no initial state"):
        InitialStateSampler([], seed=0)
