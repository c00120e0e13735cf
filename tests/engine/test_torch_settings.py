"""What repeats on a GPU is asked for there alone; a CPU needs nothing."""

import torch

from pi0.ript.engine.torch_settings import repeat_exactly


def test_a_cpu_is_left_as_it_is():
    repeat_exactly(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
