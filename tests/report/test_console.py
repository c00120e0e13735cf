"""A terminal gets a live bar, a file gets plain lines; both count successes honestly."""

import io
import logging

import pytest
from rich.console import Console

from pi0.ript.report.console import (
    LineProgress,
    LiveProgress,
    Tally,
    make_progress,
    setup_logging,
)
from pi0.ript.report.reporters import LineReporter, Reporters, step_line
from tests.report.episodes import make_episode


@pytest.fixture(autouse=True)
def restore_logging():
    """Give the logger of the package back as it was."""
    root = logging.getLogger("pi0")
    handlers, propagate, level = list(root.handlers), root.propagate, root.level
    yield
    root.handlers[:], root.propagate = handlers, propagate
    root.setLevel(level)


def test_crashed_episode_is_no_failure():
    tally = Tally(4, start=0.0)
    for outcome in ("success", "failure", "crashed"):
        tally.add(make_episode(outcome=outcome))
    # 1 of the 2 that finished; 3 in 6 s is 0.5/s, so the fourth takes 2 s.
    assert tally.line(6.0) == "3/4 episodes, 50.0% success, 1 crashed, 0.5 episodes/s, 2 s left"


def test_nothing_done_yet_reads_sensibly():
    assert Tally(4, start=0.0).line(0.0) == "0/4 episodes, no result yet"


def test_plain_progress_logs_begin_now_and_then_and_end(caplog):
    times = iter([0.0, 1.0, 31.0, 31.0, 40.0])
    progress = LineProgress(clock=lambda: next(times))
    with (
        caplog.at_level(logging.INFO, logger="pi0"),
        progress.stage("step 1 practise", 2) as on_episode,
    ):
        on_episode(make_episode())
        on_episode(make_episode(outcome="failure"))
    assert [record.message for record in caplog.records] == [
        "step 1 practise: about 2 episodes",
        "step 1 practise: 2/2 episodes, 50.0% success, 0.065 episodes/s",
        "step 1 practise: done in 40.0 s: 2/2 episodes, 50.0% success, 0.05 episodes/s",
    ]


def test_live_progress_takes_more_episodes_than_expected():
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveProgress(console).stage("step 1 practise", 1) as on_episode:
        on_episode(make_episode())
        on_episode(make_episode())


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, LiveProgress), (False, LineProgress)])
def test_display_depends_on_the_terminal(is_terminal, kind):
    assert isinstance(make_progress(Console(file=io.StringIO(), force_terminal=is_terminal)), kind)


def test_log_lines_go_to_the_console_once_and_in_plain_text():
    out = io.StringIO()
    setup_logging("INFO", Console(file=out))
    setup_logging("INFO", Console(file=out))
    logging.getLogger("pi0.ript.x").info("using %s", "[serial]")
    assert out.getvalue().count("INFO using [serial]") == 1


def test_other_ranks_only_warn():
    out = io.StringIO()
    setup_logging("INFO", Console(file=out), rank=1)
    logging.getLogger("pi0.ript.x").info("quiet")
    logging.getLogger("pi0.ript.x").warning("loud")
    assert out.getvalue().startswith("rank 1: ")
    assert "quiet" not in out.getvalue()


def test_step_line_shows_what_there_is():
    metrics = {"rollout/success_rate": 0.5, "update/kl": 0.0123, "rollout/ended_by": "budget"}
    assert step_line(metrics) == "success 50.0%, kl 0.0123"


class Notes:
    """A reporter that remembers."""

    def __init__(self):
        self.seen = []

    def log(self, step, metrics):
        self.seen.append((step, dict(metrics)))

    def close(self):
        self.seen.append("closed")


def test_reporters_pass_everything_on(caplog):
    notes = Notes()
    with caplog.at_level(logging.INFO, logger="pi0"):
        both = Reporters([notes, LineReporter()])
        both.log(3, {"rollout/success_rate": 1.0})
        both.close()
    assert notes.seen == [(3, {"rollout/success_rate": 1.0}), "closed"]
    assert caplog.messages == ["step 3: success 100.0%"]
