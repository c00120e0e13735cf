"""What two runs of the same seed must have in common, and that every difference is found."""

import json

import pytest

from pi0.ript.faults.compare import WEIGHTS, compare_runs
from pi0.ript.faults.training import growth

NO_DAMAGE = {"lost_episodes": 0, "repeated_episodes": 0, "differing_episodes": 0,
         "differing_metrics": 0, "differing_weights": 0}  # fmt: skip


def episode(step, rollout, **changes):
    record = {"step": step, "group": 0, "rollout": rollout, "outcome": "success", "num_steps": 40}
    return {**record, "actions_hash": f"{step}-{rollout}", **changes}


EPISODES = [episode(step, rollout) for step in (1, 2) for rollout in range(3)]
METRICS = [{"step": step, "update/loss": 0.5, "time/collect_s": 1.0} for step in (1, 2)]


def write_run(folder, episodes=EPISODES, metrics=METRICS, weights=b"weights"):
    folder.mkdir()
    for name, lines in (("episodes.jsonl", episodes), ("metrics.jsonl", metrics)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in WEIGHTS:
        path = folder / "checkpoints/2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(weights)
    return folder


def found(tmp_path, **disturbed):
    undisturbed = write_run(tmp_path / "undisturbed")
    result = compare_runs(write_run(tmp_path / "disturbed", **disturbed), undisturbed, 2)
    assert result.num_episodes == 6
    return {name: getattr(result, name) for name in NO_DAMAGE}


def test_equal_runs_have_no_difference(tmp_path):
    assert found(tmp_path) == NO_DAMAGE


def test_times_and_restarts_may_differ(tmp_path):
    metrics = [
        {**line, "time/collect_s": 9.0, "rollout/restarts": 3, "rollout/num_retries": 4}
        for line in METRICS
    ]
    assert found(tmp_path, metrics=metrics) == NO_DAMAGE


def test_steps_beyond_the_compared_ones_do_not_count(tmp_path):
    episodes = [*EPISODES, episode(3, 0)]
    assert found(tmp_path, episodes=episodes, metrics=[*METRICS, {"step": 3}]) == NO_DAMAGE


@pytest.mark.parametrize(
    ("disturbed", "damage"),
    [
        ({"episodes": EPISODES[:-2]}, {"lost_episodes": 2}),
        ({"episodes": [*EPISODES, EPISODES[0]]}, {"repeated_episodes": 1}),
        ({"episodes": [*EPISODES, episode(2, 7)]}, {"differing_episodes": 1}),
        (
            {"episodes": [episode(1, 0, outcome="failure"), *EPISODES[1:]]},
            {"differing_episodes": 1},
        ),
        (
            {"episodes": [episode(1, 0, actions_hash="other"), *EPISODES[1:]]},
            {"differing_episodes": 1},
        ),
        ({"metrics": METRICS[:1]}, {"differing_metrics": 1}),
        ({"metrics": [METRICS[0], {**METRICS[1], "update/loss": 0.6}]}, {"differing_metrics": 1}),
        ({"weights": b"other"}, {"differing_weights": 2}),
    ],
)
def test_every_damage_is_found(tmp_path, disturbed, damage):
    assert found(tmp_path, **disturbed) == {**NO_DAMAGE, **damage}


def test_growth_is_measured_after_the_warm_up():
    # Of ten samples the first two are warm-up; of the other eight, two make a third.
    assert growth([1, 1, 100, 100, 5, 5, 5, 5, 103, 103]) == pytest.approx(0.03)
    assert growth([7] * 100) == 0.0
    assert growth([1, 2]) is None
