"""The faults of a soak come from its seed and fall within its time."""

from collections import Counter

from pi0.ript.faults.inject import plan_faults

COUNTS = {"kill": 5, "stop": 3, "corrupt": 2, "trainer_kill": 1}


def test_every_fault_is_planned_as_often_as_asked_and_within_the_time():
    plan = plan_faults(0, 2.0, COUNTS)

    assert Counter(fault.kind for fault in plan) == COUNTS
    times = [fault.time_s for fault in plan]
    assert times == sorted(times)
    assert all(0 <= time_s < 120 for time_s in times)
    assert len({fault.seed for fault in plan}) == 11


def test_a_seed_gives_the_same_plan_and_another_seed_another():
    assert plan_faults(0, 2.0, COUNTS) == plan_faults(0, 2.0, COUNTS)
    assert plan_faults(0, 2.0, COUNTS) != plan_faults(1, 2.0, COUNTS)


def test_no_fault_is_a_plan_too():
    assert plan_faults(0, 1.0, {}) == []
