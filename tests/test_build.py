"""Settings that only ``build`` turns into something."""

from pi0.ript.build import build_states
from pi0.ript.config.schema import TrainConfig


def test_initial_states_of_several_suites_are_practised_together():
    states = build_states(TrainConfig(), (("libero_goal", 7), ("libero_object", 0)))

    dealt = [states.next() for _ in range(60)]  # 30 states of each, before any comes again
    assert sum(state.suite == "libero_object" for state in dealt) == 30
