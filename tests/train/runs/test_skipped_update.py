"""A step whose rollouts all ended alike learns nothing, says so, and the run goes on."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.learner.samples import are_equal, weights_of
from tests.policy_parts import small_policy
from tests.train.toy_training import ONE_GROUP
from tests.train.toy_world import toy_trainer


@pytest.mark.parametrize("succeeds", [True, False], ids=["all-success", "all-failure"])
@pytest.mark.parametrize(
    ("rejects_uniform", "reason"),
    [(True, "ended by attempt budget: 3 groups tried, 0"), (False, "ended by enough groups")],
    ids=["uniform-rejected", "uniform-accepted"],
)
def test_the_update_is_skipped_with_a_reason(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    succeeds: bool,
    rejects_uniform: bool,
    reason: str,
):
    algo = replace(ONE_GROUP.algo, enable_dynamic_sampling=rejects_uniform, max_sampling_attempts=3)
    policy = small_policy()
    before = weights_of(policy)
    with (
        toy_trainer(replace(ONE_GROUP, algo=algo), policy, tmp_path) as (trainer, pool),
        caplog.at_level(logging.WARNING),
    ):
        pool.succeeds = lambda slot: succeeds
        trainer.train()

    said = [line for line in caplog.messages if "update skipped, no group to learn from" in line]
    assert [line.split(":")[0] for line in said] == ["step 1", "step 2"]
    assert all(reason in line for line in said)
    assert are_equal(before, weights_of(policy))
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["update/num_optimizer_steps"] for line in lines] == [0, 0]
