"""The engine and the vector environments it is compared with do the same work."""

import pytest

pytestmark = [pytest.mark.libero, pytest.mark.slow]


def test_all_sides_see_and_answer_the_same_bits():
    from benchmarks.simulator.job import Job, Threads, run_together  # noqa: PLC0415 - loads the simulator

    # 12 steps are one whole chunk of 10 and a part of a second one.
    jobs = [
        Job(side=side, suite="libero_goal", task_id=7, size=64, max_steps=12, num_episodes=1,
            num_workers=1, num_slots=1)
        for side in ("engine", "subproc", "async")
    ]  # fmt: skip
    engine, subproc, asynchronous = (r["episodes"] for r in run_together(jobs, Threads()))

    assert [(e["num_steps"], len(e["policy_steps"])) for e in engine] == [(12, 2)]
    assert subproc == engine
    assert asynchronous == engine
