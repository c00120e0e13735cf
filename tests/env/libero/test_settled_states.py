"""Which settled states are kept; test_scene shows that they continue like the first time."""

import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state

pytestmark = pytest.mark.libero

SPEC = ObservationSpec(cameras=("agentview",), height=16, width=16)


def test_the_states_used_last_are_kept():
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - only simulator tests load the simulator
    from pi0.ript.env.libero.settled_states import SettledStates  # noqa: PLC0415 - as above

    scene = Scene("libero_goal", 7, SPEC, num_slots=1, num_steps_wait=0)
    settled = SettledStates(scene._model, scene._settle, max_kept=2)
    first, second, third = (
        make_initial_state("libero_goal", 7, n, fixture_seed=0) for n in range(3)
    )

    for state in (first, second, first, third):
        settled.restore(scene._slots[0], state)
    assert [state in settled for state in (first, second, third)] == [True, False, True]

    settled.clear()
    assert first not in settled
    scene.close()
