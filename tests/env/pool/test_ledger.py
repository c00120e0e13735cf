"""What fits into a worker: scenes that slots hold stay, all others may make room."""

import pytest

from pi0.ript.env.pool.ledger import SceneLedger, SlotLedger

A, B, C = [("libero_goal", task) for task in range(3)]


def test_slots_of_one_task_share_its_scene():
    ledger = SceneLedger(max_scenes=1)
    ledger.hold(0, A)
    ledger.hold(1, A)

    assert ledger.scenes == {A}
    assert not ledger.fits(2, B)


def test_a_released_scene_makes_room_only_after_its_last_slot():
    ledger = SceneLedger(max_scenes=1)
    ledger.hold(0, A)
    ledger.hold(1, A)

    ledger.release(0)
    assert not ledger.fits(0, B)
    ledger.release(1)
    assert ledger.fits(0, B)


def test_a_slot_may_replace_its_own_scene():
    ledger = SceneLedger(max_scenes=1)
    ledger.hold(0, A)

    ledger.hold(0, B)  # restoring releases the slot's earlier scene

    assert ledger.scenes == {B}


def test_a_loaded_scene_that_no_slot_holds_is_no_obstacle():
    ledger = SceneLedger(max_scenes=2)
    ledger.loaded = (A, B)
    ledger.hold(0, A)

    assert ledger.fits(1, C)
    assert ledger.scenes == {A, B}


def test_a_scene_that_does_not_fit_is_refused_with_what_to_do():
    ledger = SceneLedger(max_scenes=2)
    ledger.hold(0, A)
    ledger.hold(1, B)

    with pytest.raises(ValueError, match=r"no room for scene libero_goal/2 beside libero_goal/0, "
                                         r"libero_goal/1: at most 2 .* raise env\.max_scenes"):  # fmt: skip
        ledger.hold(2, C)


def test_slots_are_assigned_to_workers_round_robin():
    ledger = SlotLedger(num_slots=5, num_workers=2, max_scenes=1)

    assert [ledger.worker_of(slot) for slot in range(5)] == [0, 1, 0, 1, 0]
    assert SlotLedger(num_slots=2, num_workers=8, max_scenes=1).num_workers == 2


@pytest.mark.parametrize("wrong", ["num_slots", "num_workers", "max_scenes"])
def test_every_size_must_be_positive(wrong):
    sizes = {"num_slots": 1, "num_workers": 1, "max_scenes": 1, wrong: 0}
    with pytest.raises(ValueError, match=f"{wrong} must be >= 1, got 0"):
        SlotLedger(**sizes)
