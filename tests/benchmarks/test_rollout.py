"""How a comparison of whole episodes is put together from what its sides report."""

import pytest

pytestmark = pytest.mark.libero


def measured(side, episodes, **result):
    from benchmarks.rollout import Measured  # noqa: PLC0415
    from benchmarks.simulator.job import Job, Threads  # noqa: PLC0415 - loads the simulator's suites

    job = Job(side=side, suite="libero_goal", task_id=7, num_episodes=len(episodes))
    return Measured(
        job=job,
        threads=Threads(),
        result={"episodes": episodes, **result},
        episodes_per_minute=1.0,
        tried={},
    )


def episode(rollout, *policy_steps):
    return {"group": 0, "rollout": rollout, "num_steps": 100, "is_success": False,
            "policy_steps": list(policy_steps)}  # fmt: skip


def test_equal_episodes_are_counted_and_different_ones_named():
    from benchmarks.rollout import disagreements  # noqa: PLC0415

    engine = measured("engine", [episode(0, "a", "b"), episode(1, "c"), episode(2, "d")])
    subproc = measured("subproc", [episode(0, "a", "b"), episode(1, "x")])

    assert disagreements([engine, engine]) == (3, [])
    assert disagreements([engine, subproc]) == (
        2,
        ["engine and subproc differ in rollout 1 of state 0"],
    )


def test_a_short_trial_stands_for_whole_episodes_round_by_round():
    from benchmarks.rollout import round_rates  # noqa: PLC0415
    from benchmarks.simulator.job import Job  # noqa: PLC0415

    job = Job(side="subproc", suite="libero_goal", task_id=7, num_episodes=6, max_steps=20)
    rounds = [{"restore_s": 10.0, "step_s": s, "policy_s": 0.5} for s in (3.5, 9.5)]

    # 10 s to restore, (3.5 + 0.5) s for 20 steps, so 20 s for 100 of them; then 10 s and 50 s.
    # Two processes do 2 episodes in those 30 s and 60 s.
    assert round_rates(job, {"rounds": rounds}, max_steps=100) == pytest.approx([4.0, 2.0])


def test_the_spread_is_that_of_the_rounds():
    from dataclasses import replace  # noqa: PLC0415

    from benchmarks.rollout import spread  # noqa: PLC0415

    side = replace(measured("subproc", []), episodes_per_minute=3.5, rounds=(3.0, 3.5, 4.0))

    assert spread(side) == {"median": 3.5, "slowest": 3.0, "fastest": 4.0, "rounds": 3}


def test_the_estimate_is_physics_images_and_forwards_on_both_cores(monkeypatch):
    from benchmarks import rollout  # noqa: PLC0415
    from benchmarks.simulator.job import Job  # noqa: PLC0415

    monkeypatch.setattr(rollout.os, "sched_getaffinity", lambda _: {0, 1})
    job = Job(side="engine", suite="libero_goal", task_id=7, max_steps=100)
    limits = {"physics_s": 0.002, "policy_s": 0.01, "render_s": {"exact": 0.09}}

    # 100 steps of 2 ms and 10 policy steps of 90 + 10 ms are 1.2 s; two cores do 100 such a minute.
    assert rollout.limit_rate(job, limits, "exact") == pytest.approx(100.0)
