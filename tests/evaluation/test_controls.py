"""Negative controls change exactly one sense."""

from collections.abc import Sequence

import numpy as np
import pytest

from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.evaluation.controls import (
    GRAY,
    NoVisionPolicy,
    WrongInstructionPolicy,
    next_instruction,
)


class Recorder:
    """Remembers its arguments."""

    spec = ObservationSpec(cameras=("agentview",), height=2, width=2)

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        self.observations, self.tasks, self.seeds, self.sampling = (
            observations,
            tasks,
            seeds,
            sampling,
        )
        return []


OBSERVATION = Observation(images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.arange(9.0))


def test_a_policy_without_vision_gets_gray_images_and_everything_else():
    policy = Recorder()

    NoVisionPolicy(policy).act([OBSERVATION], ["open"], [5], Sampling(num_steps=4))

    assert (policy.observations[0].images == GRAY).all()
    np.testing.assert_array_equal(policy.observations[0].proprio, OBSERVATION.proprio)
    assert (policy.tasks, policy.seeds) == (["open"], [5])


def test_a_policy_with_the_wrong_instruction_gets_everything_else():
    policy = Recorder()
    wrong = next_instruction(["open", "close", "push"])

    WrongInstructionPolicy(policy, wrong).act(
        [OBSERVATION] * 2, ["open", "push"], [5, 6], Sampling(num_steps=4)
    )

    assert policy.tasks == ["close", "open"]
    assert policy.observations[0] is OBSERVATION


def test_one_task_has_no_wrong_instruction():
    with pytest.raises(ValueError, match="at least two tasks"):
        next_instruction(["open"])
