"""The run of the full-size benchmark on a tiny network: the same stages, the same kill."""

from pathlib import Path

import pytest

from benchmarks.full_size import forecasts, measure

pytestmark = [pytest.mark.slow, pytest.mark.libero]


def test_from_random_weights_to_lerobots_folder_with_a_kill_in_between(tmp_path: Path):
    found = measure(tmp_path, "tiny", num_steps=2, skipped=["bfloat16"])

    assert found["is_same_bits"]
    assert found["resume"]["step"] == 1  # the second checkpoint was being written
    assert (found["export"]["num_tensors"], found["export"]["num_different"]) == (141, 0)
    # 22 matrices and biases of the expert's layers, norms, projections: whatever a step changes is among them
    assert found["sft"]["only_expert_changed"]
    assert found["sft"]["num_changed"] > 20
    assert found["float32"]["max_difference"] < 1e-5
    ratios = {entry["what"]: entry["ratio"] for entry in forecasts(found)}
    for what in ("optimizer", "checkpoint", "whole checkpoint"):
        assert ratios[what] == pytest.approx(1.0, abs=0.02), what
