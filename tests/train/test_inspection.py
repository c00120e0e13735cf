"""A failed update leaves its batch behind, one line, and earlier checkpoints as they were."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train.inspection import inspectable
from tests.policy_parts import raises_one_line, small_policy
from tests.train.rows import draw_batch


def test_a_number_that_is_not_finite_leaves_the_batch_behind(tmp_path: Path):
    batch = draw_batch(small_policy(), 3)

    with pytest.raises(ValueError, match="step 7") as caught, inspectable(batch, tmp_path, 7):
        raise FloatingPointError("loss not finite")

    folder = tmp_path / "inspection" / "step_7"
    assert raises_one_line(caught.value, "loss not finite", str(folder), "last good checkpoint")
    assert is_user_error(caught.value)  # programs print the line and leave with status 2
    saved = load_file(folder / "batch.safetensors")
    np.testing.assert_array_equal(saved["chains"], batch.chains)
    np.testing.assert_array_equal(saved["images"][2], batch.observations[2].images)
    assert json.loads((folder / "batch.json").read_text())["tasks"] == list(batch.tasks)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_an_update_that_went_well_leaves_nothing(tmp_path: Path):
    with inspectable(draw_batch(small_policy(), 1), tmp_path, 1):
        pass

    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_through(tmp_path: Path):
    with pytest.raises(KeyError), inspectable(draw_batch(small_policy(), 1), tmp_path, 1):
        raise KeyError("a bug")
