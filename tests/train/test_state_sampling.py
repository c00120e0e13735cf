"""``algo.state_sampling: informative`` in the loop: metrics, resume, and bad settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from pi0.ript.config.schema import AlgoConfig, TrainConfig
from tests.policy_parts import small_policy
from tests.train.test_async_collector import CONFIG, changed, metrics
from tests.train.toy_world import toy_trainer

INFORMATIVE = replace(CONFIG, algo=replace(CONFIG.algo, state_sampling="informative"))


def run(config: TrainConfig, run_dir: Path, *, resumes: bool = False) -> None:
    with toy_trainer(config, small_policy(), run_dir, resumes=resumes) as (trainer, _):
        if not resumes:
            trainer.checkpoints.save_beginning()
        trainer.train()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_resumed_run_tries_the_states_that_it_would_have_tried(tmp_path: Path, overlap: bool):
    config, whole, parts = changed(INFORMATIVE, overlap=overlap), tmp_path / "1", tmp_path / "2"
    run(changed(config, num_train_steps=3), whole)
    run(changed(config, num_train_steps=1), parts)
    run(changed(config, num_train_steps=3), parts, resumes=True)

    assert metrics(parts) == metrics(whole)
    coverage = [line["rollout/state_coverage"] for line in metrics(whole)]
    assert coverage == sorted(coverage)
    assert 0.0 < coverage[0] <= 1.0
    assert all(0.0 < line["rollout/expected_rejection"] < 1.0 for line in metrics(whole))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"rollout_skip_threshold": 3}, "algo.rollout_skip_threshold"),
        ({"enable_dynamic_sampling": False}, "algo.enable_dynamic_sampling"),
    ],
)
def test_settings_that_contradict_it_are_refused_by_name(other: dict, named: str):
    with pytest.raises(ValueError, match=named):
        AlgoConfig(state_sampling="informative", **other)
