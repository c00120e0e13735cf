"""Flow-SDE on a toy whose exact velocity is known: actions ~ N(m, s^2)."""

import dataclasses
import math

import pytest
import torch

from pi0.sampler import Schedule, draw_chain, make_schedule, transition_mean, transition_means

MEAN = 0.3


def exact_velocity(x, t: float, s: float):
    """Return E[noise - action | x_t = x] for x_t = t * noise + (1 - t) * action.

    x_t ~ N((1 - t) m, t^2 + (1 - t)^2 s^2), Cov(noise, x_t) = t, Cov(action, x_t) = (1 - t) s^2.
    """
    variance = t**2 + (1 - t) ** 2 * s**2
    return (t - (1 - t) * s**2) / variance * (x - (1 - t) * MEAN) - MEAN


def final_moments(schedule: Schedule, s: float) -> tuple[float, float]:
    """Return mean and std of the drawn actions by exact recursion.

    Each transition is linear, x' = slope * x + offset + std * noise, so two probes give it exactly.
    """
    mean, variance = 0.0, 1.0
    probes = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for step, t in enumerate(schedule.times):
        at = transition_mean(probes, exact_velocity(probes, t, s), step, schedule)
        offset, slope = at[0].item(), (at[1] - at[0]).item()
        mean = slope * mean + offset
        variance = slope**2 * variance + schedule.stds[step] ** 2
    return mean, math.sqrt(variance)


def draw_toy(schedule: Schedule, s: float, num_samples: int):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(num_samples, schedule.num_steps + 1, 1, 1, generator=generator)
    everywhere = torch.ones(1, 1, dtype=torch.bool)

    def velocity(x, step):
        return exact_velocity(x, schedule.times[step], s)

    return draw_chain(velocity, noise, everywhere, schedule)


@pytest.mark.parametrize(
    ("noise_scale", "expected"),
    [(0.0, 0.1950), (0.2, 0.1955), (0.3, 0.1962), (0.5, 0.1977), (0.7, 0.1985)],
)
def test_many_steps_keep_the_marginal_whatever_the_noise(noise_scale, expected):
    mean, std = final_moments(make_schedule(100, noise_scale), s=0.2)
    assert mean == pytest.approx(0.3, abs=0.003)
    assert std == pytest.approx(expected, abs=5e-5)  # 0.2 in the limit, the error is O(1 / S)


@pytest.mark.parametrize(
    ("s", "noise_scale", "expected"),
    [
        (0.2, 0.2, 0.1118), (0.2, 0.3, 0.1280), (0.2, 0.5, 0.1656), (0.2, 0.7, 0.2072),
        (0.05, 0.2, 0.0577), (0.05, 0.3, 0.0870), (0.05, 0.5, 0.1511), (0.05, 0.7, 0.2317),
    ],
)  # fmt: skip
def test_four_steps_explore_by_the_known_amount(s, noise_scale, expected):
    assert final_moments(make_schedule(4, noise_scale), s)[1] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("num_steps", "expected"), [(4, 0.0959), (5, 0.1139), (10, 0.1542)])
def test_few_ode_steps_narrow_the_actions(num_steps, expected):
    assert final_moments(make_schedule(num_steps, 0.0), 0.2)[1] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("num_steps", "wrong"), [(4, 0.3513), (100, 0.6943)])
def test_a_wrong_score_sign_would_be_seen(num_steps, wrong):
    right = make_schedule(num_steps, 0.5)
    flipped = dataclasses.replace(right, score_weights=tuple(-c for c in right.score_weights))
    assert final_moments(flipped, 0.2)[1] == pytest.approx(wrong, abs=5e-5)
    assert final_moments(right, 0.2)[1] < 0.2


def test_drawn_chains_have_the_moments_of_the_recursion():
    schedule = make_schedule(4, 0.5)
    actions = draw_toy(schedule, s=0.2, num_samples=20_000)[:, -1]
    mean, std = final_moments(schedule, s=0.2)
    assert actions.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(20_000))
    assert actions.std().item() == pytest.approx(std, abs=4 * std / math.sqrt(40_000))


def test_drawn_transitions_are_standard_normal_around_their_means():
    schedule = make_schedule(4, 0.5)
    chain = draw_toy(schedule, s=0.05, num_samples=20_000)
    velocity = torch.stack(
        [exact_velocity(chain[:, k], t, 0.05) for k, t in enumerate(schedule.times)], dim=1
    )
    means = transition_means(chain[:, :-1], velocity, schedule)
    z = (chain[:, 1:] - means) / torch.tensor(schedule.stds)[:, None, None]
    for step in range(4):
        assert abs(z[:, step].mean().item()) < 4 / math.sqrt(20_000)
        assert abs(z[:, step].var().item() - 1) < 4 * math.sqrt(2 / 20_000)
        # Kolmogorov-Smirnov: beyond 1.95 / sqrt(n) the chance of a normal sample is below 1e-3.
        ordered = torch.special.ndtr(z[:, step].flatten().double().sort().values)
        steps = torch.arange(1, 20_001, dtype=torch.float64) / 20_000
        distance = max((ordered - steps).abs().max(), (ordered - steps + 1 / 20_000).abs().max())
        assert float(distance) < 1.95 / math.sqrt(20_000)


@pytest.mark.parametrize("num_steps", [2, 4, 10])
@pytest.mark.parametrize("a", [0.2, 0.5, 0.9])
def test_schedule_identities(num_steps, a):
    schedule = make_schedule(num_steps, a)
    d = 1 / num_steps
    assert schedule.stds[0] == pytest.approx(a)
    assert schedule.stds[-1] == pytest.approx(a * d / math.sqrt(1 - d))
    # the mean is linear in v, so a finite difference is exact: |dmean/dv| = d, then d (1 + a^2 / 2)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for step in range(num_steps):
        slope = transition_mean(zero, one, step, schedule) - transition_mean(
            zero, zero, step, schedule
        )
        assert -slope.item() == pytest.approx(d if step == 0 else d * (1 + a**2 / 2))


def test_four_steps_with_half_noise_have_the_published_stds():
    # sigma_k = .5 sqrt(t / (1 - t)) at t = 1, 3/4, 1/2, 1/4 (1 - t of the first is d = 1/4), times 1/2
    assert make_schedule(4, 0.5).stds == pytest.approx([0.5, 0.4330, 0.25, 0.1443], abs=5e-5)


def test_without_noise_a_chain_is_the_euler_ode():
    x, v = torch.tensor([2.0]), torch.tensor([3.0])
    schedule = make_schedule(4, 0.0)
    assert all(transition_mean(x, v, k, schedule).item() == 2.0 - 3.0 / 4 for k in range(4))
    assert not schedule.is_stochastic


@pytest.mark.parametrize(("s", "expected"), [(0.05, 0.0745), (0.2, 0.1230)])
def test_a_single_noisy_step_explores_by_the_known_amount(s, expected):
    # A step drawn per sample; all four steps would give the action a deviation of 0.151 and 0.166.
    schedule = make_schedule(4, 0.5)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200_000, 5, 1, 1, generator=generator)
    noisy_steps = torch.randint(4, (200_000,), generator=generator)

    chain = draw_chain(
        lambda x, step: exact_velocity(x, schedule.times[step], s),
        noise,
        torch.ones(1, 1, dtype=torch.bool),
        schedule,
        noisy_steps,
    )

    assert chain[:, -1].std().item() == pytest.approx(expected, rel=0.01)


def test_masked_places_take_the_ode_step_exactly():
    schedule = make_schedule(3, 0.5)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 4, 2, 3, generator=generator)
    is_noisy = torch.tensor([[True, True, False], [False, False, False]])
    chain = draw_chain(lambda x, step: torch.sin(x) + step, noise, is_noisy, schedule)
    for step in range(3):
        x = chain[:, step]
        ode = x - (torch.sin(x) + step) / 3
        torch.testing.assert_close(chain[:, step + 1][:, ~is_noisy], ode[:, ~is_noisy])
        assert (chain[:, step + 1] - ode)[:, is_noisy].abs().min() > 1e-4


def test_chain_starts_at_the_noise_given():
    noise = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    chain = draw_chain(
        lambda x, _: x, noise, torch.ones(1, 1, dtype=torch.bool), make_schedule(2, 0.3)
    )
    assert torch.equal(chain[:, 0], noise[:, 0])
    assert chain.shape == (2, 3, 1, 1)


@pytest.mark.parametrize(("num_steps", "noise_scale"), [(0, 0.0), (1, 0.5), (4, -0.1)])
def test_impossible_schedules_are_refused(num_steps, noise_scale):
    with pytest.raises(ValueError, match="got"):
        make_schedule(num_steps, noise_scale)
