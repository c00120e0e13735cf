"""A few inputs for every target; ``python -m tests.fuzz.run`` tries as many as wanted."""

import numpy as np
import pytest

from pi0.ript.env.pool.messages import HEADER, frame
from tests.fuzz.judge import FindingError, judge
from tests.fuzz.live_pool import require_same, with_field
from tests.fuzz.run import attack
from tests.fuzz.saved_run import save_run
from tests.fuzz.targets import TARGETS

NUM_INPUTS = {
    "damaged checkpoints": 20,
    "forged checkpoints": 15,
    "damaged replies": 15,
    "forged replies": 15,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = save_run(tmp_path_factory.mktemp("fuzz"))
    yield run
    run.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_hangs_shows_a_traceback_or_is_taken_for_something_else(run, name):
    counts = attack(TARGETS[name], run, NUM_INPUTS.get(name, 60), number=7)

    assert counts.total() > 0
    assert counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [(1, np.full(9, 2.0).tobytes()), (2, True), (6, (("physics_s", 9.0),))],
    ids=["proprioception", "success", "seconds"],
)
def test_a_reply_that_differs_from_what_was_sent_is_found(run, field, value):
    forge = with_field(field, value)
    sent, reply = run.live_pool.exchange(lambda data: frame(forge(data[HEADER.size :])))

    with pytest.raises(FindingError, match=r"another|other"):
        require_same(sent, reply)


def fail():
    return {}["missing"]


def give_two_lines():
    raise OSError("x" * 5000)


@pytest.mark.parametrize("slip", [fail, give_two_lines, lambda: int("x")])
def test_planted_fault_is_found(slip):
    with pytest.raises(FindingError):
        judge(slip)
