"""Held-out episodes on disk are read as they were written, or not at all."""

import json

import pytest

from pi0.ript.train.evaluations import read_evaluation, write_evaluation
from tests.policy_parts import raises_one_line
from tests.train.records import make_record

RECORDS = [make_record(state_index=30), make_record(state_index=31, outcome="failure")]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "evaluations" / "step_0.json"
    write_evaluation(path, {"protocol": "openpi"}, RECORDS)
    return path


def test_what_is_read_is_what_was_written(path):
    assert read_evaluation(path) == RECORDS


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text.replace("failure", "success"),
        lambda text: text.replace("openpi", "lerobot"),
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "[" * 10**5,
        lambda text: json.dumps(json.loads(text) | {"episodes": [{"suite": "libero_goal"}]}),
    ],
)
def test_anything_else_is_refused_in_one_line(path, harm):
    path.write_text(harm(path.read_text()))

    with pytest.raises(ValueError, match=r"step_0\.json") as caught:
        read_evaluation(path)

    assert raises_one_line(caught.value, "put back the file")
