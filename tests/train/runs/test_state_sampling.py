"""``algo.state_sampling: informative`` in the loop: metrics, resume, and bad settings."""

from pathlib import Path

import pytest

from pi0.ript.config.schema import AlgoConfig
from tests.train.toy_training import CONFIG, changed, repeatable_metrics, train

INFORMATIVE = changed(CONFIG, algo={"state_sampling": "informative"})


@pytest.mark.parametrize("overlap", [False, True])
def test_a_resumed_run_tries_the_states_that_it_would_have_tried(tmp_path: Path, overlap: bool):
    config, whole, parts = changed(INFORMATIVE, overlap=overlap), tmp_path / "1", tmp_path / "2"
    train(changed(config, num_train_steps=3), whole)
    train(changed(config, num_train_steps=1), parts)
    train(changed(config, num_train_steps=3), parts)

    assert repeatable_metrics(parts) == repeatable_metrics(whole)
    coverage = [line["rollout/state_coverage"] for line in repeatable_metrics(whole)]
    assert coverage == sorted(coverage)
    assert 0.0 < coverage[0] <= 1.0
    assert all(0.0 < line["rollout/expected_rejection"] < 1.0 for line in repeatable_metrics(whole))


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
