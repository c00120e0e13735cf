"""The activations equal torch's, but a value's neighbors do not matter."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pi0.model.gemma import gated_gelu, gelu, silu


def torch_gelu(x):
    return F.gelu(x, approximate="tanh")


@pytest.mark.parametrize(("ours", "theirs"), [(gelu, torch_gelu), (silu, F.silu)])
def test_values_and_gradients_equal_torchs(ours, theirs):
    values = torch.linspace(-20, 20, 1001, dtype=torch.float64)
    x, y = (values.clone().requires_grad_() for _ in range(2))
    torch.testing.assert_close(ours(x), theirs(y), atol=1e-12, rtol=1e-9)
    ours(x).sum().backward()
    theirs(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("activation", [gelu, silu])
def test_equal_rows_stay_equal_wherever_they_are(activation, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        # 24 numbers per row: rows do not line up with vector registers of 8 or 16 numbers
        sample = torch.randn(1, 24, generator=torch.Generator().manual_seed(0))
        for count in (3, 33, 3333):
            result = activation(sample.expand(count, 24).contiguous())
            assert (result == result[0]).all()
    finally:
        torch.set_num_threads(before)


def test_gating_equals_the_product_with_torchs_gelu():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(64, generator=generator, dtype=torch.float64) for _ in range(2)]
    ours, theirs = ([x.clone().requires_grad_() for x in values] for _ in range(2))
    torch.testing.assert_close(gated_gelu(*ours), torch_gelu(theirs[0]) * theirs[1])
    gated_gelu(*ours).square().sum().backward()
    (torch_gelu(theirs[0]) * theirs[1]).square().sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


def test_half_precision_rounds_once():
    x = torch.linspace(-6, 6, 501).bfloat16()
    torch.testing.assert_close(gelu(x), torch_gelu(x.float()).bfloat16(), atol=1e-6, rtol=2**-7)
