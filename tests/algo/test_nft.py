"""Centered DiffusionNFT against its closed forms, by exact quadrature in one dimension."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.ript.algo.nft import bounded_drift, nft_loss, optimality

NO_BOUND = 1e9

# u ~ N(0.2, 1) and r = sigmoid(2 u), the chance that u was good; Gauss-Hermite weights are exact here.
NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(90)
TARGET = torch.from_numpy(0.2 + NODES)
WEIGHT = torch.from_numpy(_WEIGHTS / _WEIGHTS.sum())
GOOD = torch.sigmoid(2 * TARGET)


def mean(values: Tensor) -> float:
    return float((WEIGHT * values).sum())


def expected_loss(v: Tensor, v_old: float, share: Tensor, beta: float) -> Tensor:
    """Return E[loss]; every quadrature node is a sample of one draw, one action and one dimension."""
    shape = (len(TARGET), 1, 1, 1)
    losses = nft_loss(
        v.expand(shape),
        torch.full(shape, v_old, dtype=torch.float64),
        TARGET.view(shape),
        share,
        beta,
        NO_BOUND,
    )
    return (WEIGHT * losses[:, 0]).sum()


def best_step(v_old: float, share: Tensor, beta: float) -> float:
    """Return v* - v_old: the loss is quadratic in v, so its minimum follows from three values."""
    low, mid, high = (
        float(expected_loss(torch.tensor(v_old + d, dtype=torch.float64), v_old, share, beta))
        for d in (-1.0, 0.0, 1.0)
    )
    return -(high - low) / 2 / (high + low - 2 * mid)


def test_expected_values_of_the_toy():
    assert mean(GOOD) == pytest.approx(0.5603, abs=1e-4)
    assert mean(GOOD * TARGET) / mean(GOOD) == pytest.approx(0.7340, abs=1e-4)


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 0.5985), (0.1, 5.985)])
def test_the_optimum_moves_towards_what_was_good(beta: float, expected: float):
    # v* - v_old = (2 / beta) * alpha * (v_plus - v_old) for v_old = E[u]: 2 * 0.5603 * (0.7340 - 0.2).
    assert best_step(0.2, GOOD, beta) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 0.5623), (0.1, 5.623)])
def test_without_centering_the_error_of_the_frozen_policy_is_pushed_into_the_step(
    beta: float, expected: float
):
    # v_old is 0.3 too high: (2 / beta) alpha (v_plus - v_old) = 0.2623 plus a drift of 0.3, both / beta.
    assert best_step(0.5, GOOD, beta) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("v_old", [0.2, 0.5, -1.0])
def test_centered_optimality_gives_the_same_step_for_every_frozen_policy(v_old: float):
    # Mean optimality 1/2: v* - v_old = 2 Cov(r, u) = 0.5985.
    centered = GOOD - mean(GOOD) + 0.5

    assert best_step(v_old, centered, beta=1.0) == pytest.approx(0.5985, rel=1e-3)


def test_leave_one_out_advantages_are_centered():
    # One success of four: advantages 1, -1/3, -1/3, -1/3.
    share = optimality(torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3]), max_advantage=1.0)

    torch.testing.assert_close(share, torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3]))
    assert float(share.mean()) == pytest.approx(0.5)


def test_optimality_stays_within_zero_and_one():
    assert optimality(torch.tensor([-3.0, 0.0, 3.0]), max_advantage=1.0).tolist() == [0.0, 0.5, 1.0]
    assert optimality(torch.tensor([0.25]), max_advantage=0.5).tolist() == [0.75]


def test_an_average_chunk_leaves_the_frozen_policy_where_it_is():
    v_old = torch.randn(3, 2, 4, 7, generator=torch.Generator().manual_seed(0))
    target = torch.randn(3, 2, 4, 7, generator=torch.Generator().manual_seed(1))
    v = v_old.clone().requires_grad_()

    nft_loss(v, v_old, target, torch.full((3,), 0.5), 1.0, 0.5).sum().backward()

    assert v.grad is not None
    assert float(v.grad.abs().max()) < 1e-6


class TestFirstOrder:
    """At the frozen policy several rules take the same first step; they differ in what bounds it."""

    ADVANTAGE, STD = -0.6, 0.144

    @pytest.fixture
    def linear(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights W [7, 5], features f [5], target u [7] and transition noise z [7]; v = W f."""
        generator = torch.Generator().manual_seed(0)
        sizes = [(7, 5), (5,), (7,), (7,)]
        w, f, u, z = (torch.randn(s, dtype=torch.float64, generator=generator) for s in sizes)
        return w.requires_grad_(), f, u, z

    def test_nft_fpo_and_signed_flow_matching_point_the_same_way(self, linear):
        w, f, u, _ = linear
        v = w @ f
        old, advantage = v.detach(), torch.tensor([self.ADVANTAGE], dtype=torch.float64)
        share = optimality(advantage, 1.0)
        nft = nft_loss(
            v.view(1, 1, 1, 7), old.view(1, 1, 1, 7), u.view(1, 1, 1, 7), share, 1.0, NO_BOUND
        )
        signed = self.ADVANTAGE * (v - u).square().mean()
        fpo = -self.ADVANTAGE * torch.exp((old - u).square().sum() - (v - u).square().sum())

        directions = [unit_gradient(loss, w) for loss in (nft.sum(), signed, fpo)]

        assert float(directions[0] @ directions[1]) > 1 - 1e-6
        assert float(directions[0] @ directions[2]) > 1 - 1e-6

    def test_the_gradient_is_advantage_times_that_of_flow_matching(self, linear):
        # r (v - u)^2 + (1 - r) (2 v_old - v - u)^2 has slope 2 (2 r - 1) (v - u) = 2 A (v - u) at v_old.
        w, f, u, _ = linear
        v = (w @ f).detach().requires_grad_()
        share = optimality(torch.tensor([self.ADVANTAGE], dtype=torch.float64), 1.0)
        shape = (1, 1, 1, 7)
        loss = nft_loss(
            v.view(shape), v.detach().view(shape), u.view(shape), share, 1.0, NO_BOUND
        ).sum()

        (found,) = torch.autograd.grad(loss, v)

        torch.testing.assert_close(found, self.ADVANTAGE * 2 * (v.detach() - u) / 7)

    def test_step_nft_is_the_score_function_gradient(self, linear):
        # softplus(y / 2 (E+ - E-)) with E+- = |x - mu+-|^2 / std^2, y = -1: its slope at the frozen policy
        # is that of -y log p, here +log p = -|x - mu|^2 / (2 std^2).
        w, f, _, z = linear
        v = w @ f
        noise, drift = z * self.STD, v - v.detach()
        near, far = ((noise - s * drift).square().sum() / self.STD**2 for s in (1.0, -1.0))
        step_nft = torch.nn.functional.softplus(-0.5 * (near - far))
        reinforce = -(noise - drift).square().sum() / (2 * self.STD**2)

        first, second = (
            torch.autograd.grad(x, w, retain_graph=True)[0] for x in (step_nft, reinforce)
        )

        torch.testing.assert_close(first, second)


def unit_gradient(loss: Tensor, w: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, w, retain_graph=True)
    return gradient.flatten() / gradient.norm()


class TestDrift:
    def test_a_small_drift_is_untouched(self):
        drift = torch.full((2, 3, 4, 7), 0.3)
        assert torch.equal(bounded_drift(drift, 0.5), drift)

    def test_a_large_drift_keeps_its_direction_and_has_the_bound_as_root_mean_square(self):
        drift = torch.randn(2, 3, 4, 7, generator=torch.Generator().manual_seed(0)) * 5

        found = bounded_drift(drift, 0.5)

        torch.testing.assert_close(found.square().mean(dim=(2, 3)).sqrt(), torch.full((2, 3), 0.5))
        ratio = found / drift
        torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
