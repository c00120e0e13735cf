"""How many slots and workers are chosen, and what is refused because memory is too small."""

import os
from dataclasses import replace

import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.resources import (
    MEMORY_SHARE,
    SLOTS_PER_WORKER,
    Machine,
    choose_sizing,
    fit_scenes,
    predict_memory,
    read_machine,
    require_memory,
    suit_groups,
)

GB = 2**30
CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def root(tmp_path):
    plant(
        tmp_path,
        "proc/meminfo",
        f"MemTotal: {16 * GB // 1024} kB\nMemAvailable: {8 * GB // 1024} kB",
    )
    return tmp_path


def plant(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def test_without_limits_the_machine_counts(root):
    machine = read_machine(root)

    assert (machine.num_cores, machine.memory_bytes) == (CORES, 8 * GB)


def test_limits_of_a_container_count_in_cgroup_version_2(root):
    plant(root, "proc/self/cgroup", "0::/")
    plant(root, "sys/fs/cgroup/cpu.max", "50000 100000")  # half a core still is one worker
    plant(root, "sys/fs/cgroup/memory.max", 4 * GB)
    plant(root, "sys/fs/cgroup/memory.current", 3 * GB)
    plant(root, "sys/fs/cgroup/memory.stat", f"anon {GB}\ninactive_file {GB}")

    machine = read_machine(root)

    # 4 GB allowed, 3 GB used, of which 1 GB is page cache that is given up on demand.
    assert (machine.num_cores, machine.memory_bytes) == (1, 2 * GB)


def test_the_tightest_enclosing_group_counts(root):
    plant(root, "proc/self/cgroup", "0::/user/job")
    for folder, limit in (("user/job", "max"), ("user", 3 * GB), (".", 6 * GB)):
        plant(root, f"sys/fs/cgroup/{folder}/memory.max", limit)
        plant(root, f"sys/fs/cgroup/{folder}/memory.current", 0)

    assert read_machine(root).memory_bytes == 3 * GB


def test_limits_of_a_container_count_in_cgroup_version_1(root):
    plant(root, "proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc")
    plant(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", 100000)
    plant(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    plant(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", 2 * GB)
    plant(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", GB)
    plant(root, "sys/fs/cgroup/memory/memory.stat", "total_inactive_file 0")

    machine = read_machine(root)

    assert (machine.num_cores, machine.memory_bytes) == (1, GB)


def test_groups_without_limits_change_nothing(root):
    plant(root, "proc/self/cgroup", "4:memory:/a\n1:cpu:/a\n0::/")
    plant(root, "sys/fs/cgroup/cpu.max", "max 100000")
    plant(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    plant(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    plant(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    plant(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", GB)

    machine = read_machine(root)

    assert (machine.num_cores, machine.memory_bytes) == (CORES, 8 * GB)


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

    # 3 workers would keep fewer than 3 each.
    chosen = sizing(machine=machine_for(2, 4), max_scenes=4, num_tasks=8)
    assert chosen.num_workers == 2
    assert chosen.scenes_per_worker == 4


def test_where_not_every_task_has_a_place_they_take_turns_and_a_line_says_so():
    chosen = sizing(machine=machine_for(1, 3), max_scenes=10, num_tasks=10)

    assert (chosen.num_workers, chosen.scenes_per_worker) == (1, 3)
    assert "10 scenes in each do not fit, so tasks take turns" in chosen.line

    # Two workers that take turns among three scenes each do more than one that has all ten.
    chosen = sizing(machine=machine_for(2, 3), max_scenes=10, num_tasks=10)
    assert (chosen.num_workers, chosen.scenes_per_worker) == (2, 3)

    assert "turns" not in sizing(max_scenes=10, num_tasks=10).line


def test_workers_that_were_given_keep_as_many_scenes_as_fit():
    needed = predict_memory(2, 8, 4, SPEC)
    chosen = sizing(8, 2, Machine(num_cores=4, memory_bytes=needed), max_scenes=10, num_tasks=10)

    assert (chosen.num_workers, chosen.scenes_per_worker) == (2, 4)
    assert "5 scenes in each do not fit" in chosen.line


def test_eight_gigabytes_run_a_suite_of_ten_tasks():
    laptop = Machine(num_cores=2, memory_bytes=7 * 10**9)  # the system has the rest
    exact = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), height=256, width=256)
    for num_workers in ("auto", 1, 2):
        chosen = choose_sizing(
            "auto", num_workers, max_scenes=10, num_tasks=10, group_size=8, spec=exact, machine=laptop
        )  # fmt: skip
        require_memory(
            chosen.num_workers, chosen.num_slots, chosen.scenes_per_worker, exact, laptop
        )


def test_the_serial_runner_keeps_as_many_scenes_as_fit():
    small = Machine(num_cores=2, memory_bytes=predict_memory(1, 1, 3, SPEC))

    assert fit_scenes(10, 10, SPEC, ROOMY).scenes_per_worker == 10
    assert fit_scenes(10, 2, SPEC, ROOMY).scenes_per_worker == 2
    assert fit_scenes(10, 10, SPEC, small).scenes_per_worker == 3
    assert "so tasks take turns" in fit_scenes(10, 10, SPEC, small).line
    assert fit_scenes(4, 4, SPEC, Machine(num_cores=1, memory_bytes=0)).scenes_per_worker == 1


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
