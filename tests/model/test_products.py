"""Wide products on a CPU equal torch's own up to rounding, with their gradients, and treat every row alike."""

import pytest
import torch
from torch import nn

from pi0.model.products import WIDE, project

INPUTS = 320  # 320 * 512 = 163,840 weights are wide
OUTPUTS = 512


def product(*, bias: bool, library):
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=bias)
    x = torch.randn(2, 5, INPUTS, requires_grad=True)
    y = library(linear, x)
    y.square().sum().backward()
    return y.detach(), x.grad, *(parameter.grad for parameter in linear.parameters())


@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_torchs(bias):
    assert INPUTS * OUTPUTS >= WIDE
    ours = product(bias=bias, library=project)
    theirs = product(bias=bias, library=lambda linear, x: linear(x))
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-5)


def test_a_row_has_the_same_bits_wherever_it_is_and_with_or_without_gradients():
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS)
    x, order = torch.randn(37, INPUTS), torch.randperm(37)
    with torch.no_grad():
        plain = project(linear, x)
        assert torch.equal(project(linear, x[order]), plain[order])
    assert torch.equal(project(linear, x), plain)


def test_narrow_products_are_torchs_own_bits():
    linear, x = nn.Linear(160, 512), torch.randn(7, 160)  # the embedded policy's widest
    assert torch.equal(project(linear, x), linear(x))


def test_masters_are_cast_for_the_product():
    linear, x = nn.Linear(INPUTS, OUTPUTS), torch.randn(3, INPUTS).bfloat16()
    weight, bias = linear.weight.bfloat16(), linear.bias.bfloat16()
    assert torch.equal(project(linear, x), nn.functional.linear(x, weight, bias))
