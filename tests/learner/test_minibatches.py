"""Minibatches are cut from the samples of all ranks; every rank computes its own part of each."""

import numpy as np
import pytest
import torch

from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.minibatches import GlobalSamples, cut

CPU = torch.device("cpu")


def samples_of(rank: int) -> GlobalSamples:
    """Five samples: rank 0 holds global indices 0, 2 and 3 as its own 0, 1 and 2, rank 1 the others."""
    return GlobalSamples(
        weights=torch.full((5,), 0.2),
        owners=np.array([0, 1, 0, 0, 1]),
        own_index=np.array([0, 0, 1, 2, 1]),
        rank=rank,
    )


def test_weights_are_normalized_over_all_samples():
    # 1 + 1 + 2 = 4
    groups, weights = np.array([0, 0, 1]), np.array([1, 1, 2], np.float32)

    samples = GlobalSamples.gather(SINGLE_PROCESS, groups, weights, CPU)

    assert samples.weights.tolist() == [0.25, 0.25, 0.5]
    assert samples.global_index_of_own().tolist() == [0, 1, 2]


def test_no_sample_of_any_rank_is_allowed():
    groups, weights = np.zeros(0, np.int64), np.zeros(0, np.float32)

    assert len(GlobalSamples.gather(SINGLE_PROCESS, groups, weights, CPU)) == 0


@pytest.mark.parametrize(("rank", "owned", "own"), [(0, [0, 2, 3], [2, 0]), (1, [1, 4], [1])])
def test_a_rank_finds_its_samples_by_own_index(rank: int, owned: list[int], own: list[int]):
    samples = samples_of(rank)

    assert samples.global_index_of_own().tolist() == owned
    assert samples.own_among(np.array([3, 4, 0])).tolist() == own


def test_every_rank_cuts_the_same_minibatches_into_micro_batches_of_its_own():
    # Of the first three rank 0 holds two; of the other two each rank holds one.
    order = np.array([3, 4, 0, 2, 1])
    plans = [cut(samples_of(rank), order, num_minibatches=2, size=1) for rank in (0, 1)]

    for plan in plans:
        assert [minibatch.global_index.tolist() for minibatch in plan] == [[3, 4, 0], [2, 1]]
        assert [minibatch.num_passes for minibatch in plan] == [2, 1]
    own = [[[part.tolist() for part in m.micro_batches] for m in plan] for plan in plans]
    assert own == [[[[2], [0]], [[1]]], [[[1]], [[0]]]]
