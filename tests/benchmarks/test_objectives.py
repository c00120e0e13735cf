"""What a folder of runs holds about the arms of the comparison."""

import argparse
import json

from benchmarks.objectives import dump, finished, load
from benchmarks.training.objectives_runs import Task, first_steps, num_steps_for
from pi0.ript.episode_record import EpisodeRecord

TASK = Task(name="stove", suite="libero_goal", task_id=7, overrides=(), env_steps=(300, 500))


def _write_evaluation(folder, outcomes):
    folder.mkdir(parents=True)
    records = [
        EpisodeRecord(
            suite="libero_goal", task_id=7, task="turn on the stove", state_index=30 + n, seed=n,
            outcome=outcome, num_steps=50,
        )
        for n, outcome in enumerate(outcomes)
    ]  # fmt: skip
    lines = [{"settings": {}}, *(record.to_dict() for record in records)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text("{}")


def _write_run(output, arm, seed, env_steps):
    """A run of three steps from 1 to 2 successes in 4, with a crashed episode after training."""
    place = output / "stove" / arm / f"seed_{seed}"
    (place / "run_1").mkdir(parents=True)
    lines = [
        {
            "step": number + 1,
            "train/num_env_steps": steps,
            "time/collect_s": 90.0,
            "time/update_s": 30.0,
        }
        for number, steps in enumerate(env_steps)
    ]
    (place / "run_1" / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    base = output / "stove" / "base" / f"seed_{seed}"
    if not base.exists():
        _write_evaluation(base, ["success", "failure", "failure", "failure"])
    for step in (2, 3):
        _write_evaluation(
            place / f"step_{step}", ["success", "success", "failure", "failure", "crashed"]
        )


def test_the_runs_of_several_calls_add_up_and_unfinished_ones_are_left_out(tmp_path):
    _write_run(tmp_path, "flipped", 0, env_steps=[200, 400, 500])
    _write_run(tmp_path, "bc_noisy", 1, env_steps=[200, 400, 500])
    _write_run(tmp_path, "bc_noisy", 0, env_steps=[200, 400, 600])
    _write_run(tmp_path, "nft", 0, env_steps=[200, 400, 499])
    given = argparse.Namespace(output_dir=tmp_path, config="quickstart.yaml")

    curves = finished(given, TASK)

    assert [(curve.arm, curve.seed) for curve in curves] == [
        ("bc noisy", 0),
        ("bc noisy", 1),
        ("flipped", 0),
    ]
    # 300 and 500 simulator steps were passed in the second and third training step, of two minutes each
    assert curves[0].env_steps == [0, 400, 600]
    assert curves[0].minutes == [0.0, 4.0, 6.0]
    assert curves[0].success == [0.25, 0.5, 0.5]


def test_curves_come_back_from_their_file(tmp_path):
    _write_run(tmp_path, "bc", 0, env_steps=[200, 400, 500])
    curves = {"stove": finished(argparse.Namespace(output_dir=tmp_path, config=""), TASK)}
    (tmp_path / "measured.json").write_text(dump(curves))

    assert load(tmp_path / "measured.json") == curves
    assert load(tmp_path / "none.json") == {}


def test_a_run_without_its_last_evaluation_is_left_out(tmp_path):
    _write_run(tmp_path, "bc", 0, env_steps=[200, 400, 500])
    (tmp_path / "stove" / "bc" / "seed_0" / "step_3" / "results.json").unlink()

    assert finished(argparse.Namespace(output_dir=tmp_path, config=""), TASK) == []


def test_checkpoints_are_the_first_ones_beyond_the_marks():
    assert first_steps([100, 200, 300], marks=[100, 101, 250]) == [1, 2, 3]


def test_a_run_goes_on_for_as_many_steps_as_those_so_far_predict():
    assert num_steps_for([], 1000) == 2
    # 200 a step so far: 5 steps for 1000
    assert num_steps_for([150, 400], 1000) == 5
    # never less than one more
    assert num_steps_for([500, 999], 1000) == 3
