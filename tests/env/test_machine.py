"""Cores and memory as the machine and its containers allow them, read from planted files."""

import os

import pytest

from pi0.ript.env.machine import read_machine

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
