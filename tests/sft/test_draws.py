"""What steps learn from: rates, times, shares of tasks, and a generator that goes on where it was."""

import numpy as np
import pytest

from pi0.ript.sft.draws import (
    Draws,
    draw_times,
    generator_state,
    held_out_draws,
    new_generator,
    restored_generator,
    shares,
)
from pi0.ript.sft.settings import SftSettings, learning_rate
from tests.sft.frames import made_frames


def test_learning_rate_warms_up_and_falls_to_a_tenth():
    settings = SftSettings(num_steps=110, warmup_steps=10, lr=1.0)

    # 1/10 at the first step, the peak at the tenth, 0.55 half-way down, 0.1 at the end.
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(9, settings) == pytest.approx(1.0)
    assert learning_rate(60, settings) == pytest.approx(0.55)
    assert learning_rate(110, settings) == pytest.approx(0.1)


def test_a_run_may_end_before_its_learning_rate_has_fallen_or_after():
    settings = SftSettings(lr=1.0, warmup_steps=10, num_steps=60, decay_steps=110)

    # halfway down when the run ends; further on it would stay at a tenth
    assert learning_rate(60, settings) == pytest.approx(0.55)
    assert learning_rate(110, settings) == pytest.approx(0.1)
    assert learning_rate(500, settings) == pytest.approx(0.1)


def test_times_follow_beta_1_5_1():
    """Mean 1.5 / 2.5 = 0.6, variance 1.5 / (2.5^2 * 3.5) = 0.0686, P(t > 0.9) = 1 - 0.9^1.5 = 0.146."""
    times = draw_times(np.random.default_rng(0), (200_000,))

    assert times.mean() == pytest.approx(0.6, abs=3e-3)
    assert times.var() == pytest.approx(0.0686, abs=1e-3)
    assert (times > 0.9).mean() == pytest.approx(0.146, abs=3e-3)
    assert times.min() > 0
    assert times.max() <= 1


def test_frames_of_a_task_share_its_weight():
    frames = made_frames(lengths=(2, 4), tasks=(0, 1))
    everything = np.arange(6)

    # weights 1 and 3: a quarter for two frames, three quarters for four
    assert shares(frames, everything, (1.0, 3.0)) == pytest.approx([1 / 8] * 2 + [3 / 16] * 4)
    assert shares(frames, everything, ()) == pytest.approx([1 / 4] * 2 + [1 / 8] * 4)
    assert shares(frames, everything[2:], (7.0,)) == pytest.approx([1 / 4] * 4)
    with pytest.raises(ValueError, match="task_weights has 2 numbers for 1 tasks; give one each"):
        shares(frames, everything[2:], (1.0, 2.0))


def test_a_generator_goes_on_where_its_numbers_say():
    chosen, settings = np.array([3, 5, 9]), SftSettings(frames_per_step=5, draws_per_frame=2)
    probabilities = np.array([0.2, 0.0, 0.8])

    def draws(rng: np.random.Generator) -> Draws:
        return Draws(chosen, probabilities, settings, (3, 2), rng, num_cameras=2)

    one = draws(new_generator(7))
    first = one.next()
    second, again = one.next(), draws(restored_generator(first.state)).next()

    assert set(second.frames) <= {3, 9}
    assert second.noise.shape == (5, 2, 3, 2)
    for name in ("frames", "noise", "times"):
        np.testing.assert_array_equal(getattr(second, name), getattr(again, name))
    assert second.state == again.state
    assert generator_state(new_generator(7)) != generator_state(new_generator(8))


def test_held_out_frames_are_spread_evenly_and_always_the_same():
    chosen = np.arange(100, 200)

    one, again = (held_out_draws(chosen, 4, 2, (3, 2), seed=0) for _ in range(2))

    assert one.frames.tolist() == [100, 133, 166, 199]
    np.testing.assert_array_equal(one.noise, again.noise)
    assert held_out_draws(chosen[:3], 4, 2, (3, 2), seed=0).frames.tolist() == [100, 101, 102]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "--num_steps must be >= 1, got 0"),
        ({"micro_batch": -1}, "--micro_batch must be >= 0, got -1"),
        ({"lr": 0.0}, "--lr must be > 0, got 0"),
        ({"task_weights": (0.0, 0.0)}, "--task_weights must be numbers >= 0, one of them > 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SftSettings(**change)
