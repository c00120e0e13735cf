"""A few inputs at every way in; ``python -m tests.fuzz.run`` tries as many as one likes."""

import pytest

from tests.fuzz.judge import FindingError, judge
from tests.fuzz.run import attack
from tests.fuzz.saved_run import save_run
from tests.fuzz.targets import TARGETS

NUM_INPUTS = {"damaged checkpoints": 20, "forged checkpoints": 15}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_hangs_shows_a_traceback_or_is_taken_for_something_else(run, name):
    counts = attack(TARGETS[name], run, NUM_INPUTS.get(name, 60), number=7)

    assert counts.total() > 0
    assert counts["refused"] > 0


def fail():
    return {}["missing"]


def give_two_lines():
    raise OSError("x" * 5000)


@pytest.mark.parametrize("slip", [fail, give_two_lines, lambda: int("x")])
def test_planted_fault_is_found(slip):
    with pytest.raises(FindingError):
        judge(slip)
