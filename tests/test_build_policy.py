"""Settings that only ``build_policy`` turns into something."""

import pytest

from pi0.ript.build_policy import build_policy
from pi0.ript.config.schema import PolicyConfig, TrainConfig


def test_cuda_graphs_without_a_gpu_are_refused():
    config = TrainConfig(policy=PolicyConfig(device="cpu", cuda_graphs=True))
    with pytest.raises(ValueError, match=r"policy\.cuda_graphs is true, but the policy is on cpu"):
        build_policy(config)
