"""Memory of a simulator process: scenes come and go, restores repeat, and nothing is left behind."""

import os
from pathlib import Path

import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.resources import SLOT_BYTES, predict_memory
from tests.env.pools import process_pool

pytestmark = [pytest.mark.libero, pytest.mark.slow]

SPEC = ObservationSpec(cameras=("agentview",), height=64, width=64, quality="fast")
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def peak_bytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def restore(pool, slot, task, index=0):
    pool.restore(slot, make_initial_state("libero_goal", task, index, fixture_seed=0))
    [reply] = pool.wait()
    assert reply.error == ""
    pool.release(slot)
    return reply


def test_evictions_and_restores_leave_memory_flat_and_within_the_prediction():
    with process_pool(spec=SPEC) as pool:
        [pid] = pool.pids
        for task in (7, 6):  # the second scene shows what a first one leaves behind
            restore(pool, 0, task)
        before = resident_bytes(pid)
        evictions = 0
        for round_number in range(2):
            reply = restore(pool, 0, task=7 - round_number % 2)  # 7, 6
            evictions += reply.counts["scene_evictions"]
            for index in range(50):
                restore(pool, 0, 7 - round_number % 2, index % 10)

        assert evictions == 2
        assert abs(resident_bytes(pid) / before - 1) < 0.03
        assert peak_bytes(pid) < predict_memory(1, 1, 1, SPEC)
        assert pool.loaded_scenes(0) == {("libero_goal", 6)}


def test_a_further_slot_costs_less_than_predicted():
    with process_pool(num_slots=16, spec=SPEC) as pool:
        restore(pool, 0, task=7)
        one = resident_bytes(pool.pids[0])
        for slot in range(1, 16):
            restore(pool, slot, task=7, index=slot % 4)
        assert resident_bytes(pool.pids[0]) - one < 15 * SLOT_BYTES
