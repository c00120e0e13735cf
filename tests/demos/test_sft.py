"""Supervised fine-tuning: schedules, draws, statistics, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.datasets.demonstrations import Demonstrations
from pi0.ript.demos.sft import (
    MIN_STD,
    SftSettings,
    demonstration_stats,
    draw_times,
    fine_tune,
    learning_rate,
)
from pi0.ript.scripts.sft import new_tiny_policy
from pi0.tiny import tiny_card


def _demos(
    task: str = "turn on the stove", *, frames: int = 6, action: float = 0.5
) -> Demonstrations:
    rng = np.random.default_rng(0)
    proprio = np.zeros((frames, 9))
    proprio[:, :3] = rng.standard_normal((frames, 3))
    proprio[:, 3:7] = [1.0, 0.0, 0.0, 0.0]  # gripper pointing down
    actions = np.full((frames, 10, 7), action, np.float32)
    actions[::2] = -action
    return Demonstrations(
        suite="libero_goal",
        task_id=7,
        task=task,
        images=rng.integers(0, 256, (frames, 1, 96, 96, 3), dtype=np.uint8),
        proprio=proprio,
        actions=actions,
        num_attempts=1,
        num_successes=1,
        num_steps=frames,
    )


def test_learning_rate_warms_up_and_falls_to_a_tenth():
    settings = SftSettings(num_steps=110, warmup_steps=10, lr=1.0)

    # 1/10 at the first step, the peak at the tenth, 0.55 half-way down, 0.1 at the end.
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(9, settings) == pytest.approx(1.0)
    assert learning_rate(60, settings) == pytest.approx(0.55)
    assert learning_rate(110, settings) == pytest.approx(0.1)


def test_times_follow_beta_1_5_1():
    """Mean 1.5 / 2.5 = 0.6, variance 1.5 / (2.5^2 * 3.5) = 0.0686, P(t > 0.9) = 1 - 0.9^1.5 = 0.146."""
    times = draw_times(np.random.default_rng(0), (200_000,))

    assert times.mean() == pytest.approx(0.6, abs=3e-3)
    assert times.var() == pytest.approx(0.0686, abs=1e-3)
    assert (times > 0.9).mean() == pytest.approx(0.146, abs=3e-3)
    assert times.min() > 0
    assert times.max() <= 1


def test_statistics_weigh_every_task_the_same_and_floor_constant_numbers():
    # Task a is always at +-0.5, task b at +-0.1: mean 0, variance (0.25 + 0.01) / 2.
    stats = demonstration_stats([_demos(frames=6), _demos(frames=60, action=0.1)], tiny_card())

    assert stats.actions["mean"] == pytest.approx(np.zeros(7), abs=1e-7)
    assert stats.actions["std"] == pytest.approx(np.full(7, np.sqrt(0.13)), rel=1e-6)
    # The rotation never changes, so its 6 numbers have no spread of their own.
    assert stats.state["std"][3:9] == pytest.approx(np.full(6, MIN_STD))


@pytest.mark.parametrize("architecture", ["pi0", "pi05"])
def test_fine_tuning_lowers_the_loss_and_repeats_bit_for_bit(architecture):
    demos = [_demos()]
    settings = SftSettings(
        num_steps=12, frames_per_step=6, draws_per_frame=2, warmup_steps=2, task_weights=()
    )

    losses, again, other = (
        [loss for _, loss in fine_tune(new_tiny_policy(demos, seed, architecture), demos, settings)]
        for seed in (0, 0, 1)
    )

    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert losses == again
    assert losses != other


def test_task_weights_must_fit_the_tasks():
    demos = [_demos()]
    settings = replace(SftSettings(), task_weights=(1.0, 2.0))

    with pytest.raises(ValueError, match="task_weights has 2 numbers for 1 tasks"):
        next(fine_tune(new_tiny_policy(demos, seed=0), demos, settings))
