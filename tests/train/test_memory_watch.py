"""A run that would use up the memory warns, drops scenes and ends, in this order."""

import os

import pytest

from pi0.ript.train.memory_watch import MemoryLimitError, MemoryWatch
from tests.policy_parts import raises_one_line

PAGE = os.sysconf("SC_PAGE_SIZE")


class Machine:
    """Files of /proc as the kernel writes them, and a clock that is set by hand."""

    def __init__(self, root):
        self.root, self.seconds, self.num_dropped = root, 0.0, 0
        self.set(left_gb=8.0)

    def set(self, left_gb, trainer_gb=1.0, worker_gb=2.0):
        for pid, resident in ((os.getpid(), trainer_gb), (77, worker_gb)):
            folder = self.root / f"proc/{pid}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "statm").write_text(f"0 {int(resident * 1e9 / PAGE)} 0 0 0 0 0")
        meminfo = f"MemTotal: 999 kB\nMemAvailable: {int(left_gb * 1e9 / 1024)} kB\n"
        (self.root / "proc/meminfo").write_text(meminfo)

    def drop(self):
        self.num_dropped += 1

    def watch(self, limit_gb="auto"):
        return MemoryWatch(
            limit_gb, lambda: (77, 78), self.drop, root=self.root, clock=lambda: self.seconds
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def sample_a_second_later(machine, watch):
    machine.seconds += 1.0
    watch.sample()


def test_resident_memory_of_every_process_is_a_figure(machine):
    figures = machine.watch().metrics()

    # process 78 has ended
    assert figures == pytest.approx(
        {
            "memory/trainer_gb": 1.0,
            "memory/workers_gb": 2.0,
            "memory/left_gb": 8.0,
            "memory/worker_0_gb": 2.0,
            "memory/worker_1_gb": 0.0,
        },
        abs=1e-4,
    )


def test_scenes_are_dropped_once_before_the_run_ends(machine, caplog):
    watch = machine.watch()
    sample_a_second_later(machine, watch)
    assert machine.num_dropped == 0

    machine.set(left_gb=0.4)
    sample_a_second_later(machine, watch)
    assert machine.num_dropped == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]

    with pytest.raises(MemoryLimitError) as caught:
        sample_a_second_later(machine, watch)
    assert raises_one_line(caught.value, "2 workers 2.0 GB", "0.4 GB left", "env.max_scenes")


def test_memory_that_came_back_lets_the_run_go_on(machine):
    watch = machine.watch()
    for left_gb in (0.9, 0.9, 5.0, 0.9):
        machine.set(left_gb)
        sample_a_second_later(machine, watch)

    assert machine.num_dropped == 2


def test_limit_of_ones_own_counts_trainer_and_workers(machine):
    # 3.2 - 1.0 - 2.0 = 0.2 GB
    assert machine.watch(limit_gb=3.2).use().left == pytest.approx(0.2e9, abs=1e6)


def test_it_looks_once_a_second(machine):
    watch = machine.watch()
    watch.sample()
    machine.set(left_gb=0.4)
    machine.seconds = 0.9
    watch.sample()

    assert machine.num_dropped == 0
