"""How many slots and workers are chosen, and what is refused because memory is too small."""

from dataclasses import replace

import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.capacity import predict_memory, require_memory
from pi0.ript.env.machine import Machine
from pi0.ript.env.sizing import MEMORY_SHARE, SLOTS_PER_WORKER, choose_sizing, suit_groups

SPEC = ObservationSpec(cameras=("agentview",), height=96, width=96, quality="fast")
ROOMY = Machine(num_cores=4, memory_bytes=10**12)


def sizing(num_slots="auto", num_workers="auto", machine=ROOMY, max_scenes=1, num_tasks=1):
    return choose_sizing(
        num_slots,
        num_workers,
        max_scenes=max_scenes,
        num_tasks=num_tasks,
        group_size=8,
        spec=SPEC,
        machine=machine,
    )


def machine_for(num_workers, scenes):
    """Four cores and just enough memory for so many workers with so many scenes each."""
    needed = predict_memory(num_workers, SLOTS_PER_WORKER * num_workers, scenes, SPEC)
    return Machine(num_cores=4, memory_bytes=int(needed / MEMORY_SHARE) + 1)


def test_auto_takes_a_worker_per_core_and_some_slots_for_each():
    chosen = sizing()

    assert (chosen.num_workers, chosen.num_slots) == (4, 4 * SLOTS_PER_WORKER)
    assert "4 cores" in chosen.line
    assert "K = 8" in chosen.line


def test_null_workers_mean_auto():
    assert sizing(num_workers=None) == sizing(num_workers="auto")


def test_numbers_are_obeyed():
    chosen = sizing(num_slots=5, num_workers=3)

    assert (chosen.num_slots, chosen.num_workers) == (5, 3)


def test_no_worker_is_without_a_slot():
    assert sizing(num_slots=2).num_workers == 2
    assert sizing(num_slots=2, num_workers=3).num_workers == 2


def test_auto_takes_fewer_workers_where_memory_is_small():
    assert sizing(machine=machine_for(2, 1)).num_workers == 2


def test_auto_gives_up_scenes_before_workers_while_every_task_has_a_place():
    # 8 tasks on 4 workers need 2 scenes each; 4 of them would not fit.
    chosen = sizing(machine=machine_for(4, 2), max_scenes=4, num_tasks=8)
    assert (chosen.num_workers, chosen.scenes_per_worker) == (4, 2)

    # 2 workers must keep 4 scenes each to have room for 8 tasks.
    chosen = sizing(machine=machine_for(2, 4), max_scenes=4, num_tasks=8)
    assert chosen.num_workers == 2
    assert chosen.scenes_per_worker == 4


def test_no_worker_plans_for_more_scenes_than_there_are_tasks():
    assert sizing(max_scenes=4, num_tasks=3).scenes_per_worker == 3
    assert sizing(max_scenes=2, num_tasks=3).scenes_per_worker == 2


@pytest.mark.parametrize(
    ("slots", "group_size", "expected"), [(8, 8, 8), (12, 8, 8), (40, 16, 32), (5, 8, 4), (3, 7, 1)]
)
def test_slots_come_in_multiples_or_fractions_of_a_group(slots, group_size, expected):
    assert suit_groups(slots, group_size) == expected


def test_memory_grows_with_workers_scenes_slots_and_pixels():
    base = predict_memory(2, 8, 2, SPEC)

    assert predict_memory(3, 8, 2, SPEC) > base
    assert predict_memory(2, 8, 3, SPEC) > base
    assert predict_memory(2, 9, 2, SPEC) > base
    assert predict_memory(2, 8, 2, replace(SPEC, height=256)) > base


def test_a_further_slot_costs_under_15_megabytes():
    assert predict_memory(2, 9, 1, SPEC) - predict_memory(2, 8, 1, SPEC) < 15e6


def test_too_little_memory_is_refused_with_what_to_lower():
    expected = (
        r"need up to .* GB of memory \(workers: 2, scenes in each: 1, slots: 8\), "
        r"1\.0 GB are available; lower env\.num_workers, env\.max_scenes or task\.num_parallel_envs"
    )
    with pytest.raises(ValueError, match=expected):
        require_memory(2, 8, 1, SPEC, Machine(num_cores=2, memory_bytes=10**9))
