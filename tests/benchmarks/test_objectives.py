"""What a folder of runs holds about the arms of the comparison."""

import json

from benchmarks.objectives import finished


def _write_run(output, arm, seed, env_steps):
    """A run of one step from 1 to 2 successes in 4, with a crashed episode after training."""
    run = output / arm / f"seed_{seed}" / "run_1"
    (run / "evaluations").mkdir(parents=True)
    line = {
        "step": 1,
        "train/num_env_steps": env_steps,
        "time/collect_s": 90.0,
        "time/update_s": 30.0,
    }
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    base, after = ["success", "failure", "failure", "failure"], ["success", "success", "failure"]
    for step, outcomes in enumerate((base, [*after, "failure", "crashed"])):
        episodes = [{"outcome": outcome} for outcome in outcomes]
        (run / "evaluations" / f"step_{step}.json").write_text(json.dumps({"episodes": episodes}))


def test_the_runs_of_several_calls_add_up_and_unfinished_ones_are_left_out(tmp_path):
    _write_run(tmp_path, "flipped", 0, env_steps=500)
    _write_run(tmp_path, "bc_noisy", 1, env_steps=500)
    _write_run(tmp_path, "bc_noisy", 0, env_steps=500)
    _write_run(tmp_path, "nft", 0, env_steps=499)

    curves = finished(tmp_path, 500)

    assert [(curve.arm, curve.seed) for curve in curves] == [
        ("bc noisy", 0),
        ("bc noisy", 1),
        ("flipped", 0),
    ]
    assert curves[0].env_steps == [0, 500]
    assert curves[0].minutes == [0.0, 2.0]
    assert curves[0].success == [0.25, 0.5]
