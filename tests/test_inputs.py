"""How many samples a network call has, and how its inputs reach the device."""

import dataclasses

import numpy as np
import pytest
import torch

from pi0.inputs import Inputs, padded_size
from pi0.records import GPU_BATCH_SIZE
from tests.policy_parts import TASKS, make_observations, small_policy


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize(
    ("num_samples", "on_gpu", "on_cpu"),
    [(1, 1, 48), (2, 2, 48), (3, 4, 48), (5, 8, 48), (17, 32, 48), (33, 48, 48), (48, 48, 48)],
)
def test_a_gpu_gets_a_power_of_two_and_a_cpu_always_a_whole_batch(num_samples, on_gpu, on_cpu):
    assert padded_size(num_samples, 48, torch.device("cuda")) == on_gpu
    assert padded_size(num_samples, 48, torch.device("cpu")) == on_cpu


def test_a_gpu_computes_one_of_seven_sizes():
    sizes = {padded_size(n, GPU_BATCH_SIZE, torch.device("cuda")) for n in range(1, 65)}
    assert sizes == {1, 2, 4, 8, 16, 32, 64}


def test_a_gpu_that_must_repeat_gets_a_whole_batch(deterministic):
    assert padded_size(1, 48, torch.device("cuda")) == 48


def tensors(inputs: Inputs) -> list[torch.Tensor]:
    return [getattr(inputs, field.name) for field in dataclasses.fields(inputs)]


def test_inputs_that_are_on_the_device_are_not_copied():
    inputs = small_policy().encode(make_observations(2), TASKS[:2])
    for before, after in zip(tensors(inputs), tensors(inputs.to(torch.device("cpu"))), strict=True):
        assert after.data_ptr() == before.data_ptr()


@pytest.mark.gpu
def test_a_gpu_gets_the_same_numbers_even_if_the_host_reuses_its_memory_at_once():
    inputs = small_policy().encode(make_observations(2), TASKS[:2])
    expected = [tensor.clone() for tensor in tensors(inputs)]
    on_gpu = inputs.to(torch.device("cuda"))
    for tensor in tensors(
        inputs
    ):  # the copy may still be under way: it reads pinned memory, not this
        tensor.zero_()
    for copy, original in zip(tensors(on_gpu), expected, strict=True):
        np.testing.assert_array_equal(copy.cpu().numpy(), original.numpy())
