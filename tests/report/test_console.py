"""A terminal gets a live bar, a file gets plain lines; both count successes honestly."""

import io
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from pi0.ript.report.console import (
    LineProgress,
    LiveProgress,
    Tally,
    duration,
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
    # 1 of the 2 that finished; 3 in 6 s is 0.5/s, so the fourth takes 2 s; 3 * 6 control steps.
    assert tally.line(6.0) == (
        "3/4 episodes, 50.0% success, 1 crashed, 0.5 episodes/s, 3 steps/s, 2 s left"
    )


def test_nothing_done_yet_is_no_result():
    assert Tally(4, start=0.0).line(0.0) == "0/4 episodes, no result yet"


def test_time_left_of_the_run_goes_down_while_a_stage_goes_on():
    tally = Tally(4, start=10.0, run_left_s=600.0)

    assert tally.line(10.0) == "0/4 episodes, no result yet, run 10 min left"
    assert tally.line(550.0) == "0/4 episodes, no result yet, run 60 s left"
    assert tally.line(9999.0).endswith("run 0 s left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5940, "99 min"),
        (6000, "1 h 40 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations_are_as_fine_as_they_are_long(seconds, text):
    assert duration(seconds) == text


def test_plain_progress_logs_begin_now_and_then_and_end(caplog):
    times = iter([0.0, 1.0, 31.0, 31.0, 40.0])
    progress = LineProgress(clock=lambda: next(times))
    with (
        caplog.at_level(logging.INFO, logger="pi0"),
        progress.stage("step 1 collect", 2) as on_episode,
    ):
        on_episode(make_episode())
        on_episode(make_episode(outcome="failure"))
    assert [record.message for record in caplog.records] == [
        "step 1 collect: about 2 episodes",
        "step 1 collect: 2/2 episodes, 50.0% success, 0.065 episodes/s, 0 steps/s",
        "step 1 collect: done in 40.0 s: 2/2 episodes, 50.0% success, 0.05 episodes/s, 0 steps/s",
    ]


def test_live_progress_takes_more_episodes_than_expected():
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveProgress(console).stage("step 1 collect", 1) as on_episode:
        on_episode(make_episode())
        on_episode(make_episode())


def _written(console):
    """Everything that was ever written, without the codes that move the cursor and color."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_live_display_shows_step_stage_episodes_success_speed_and_time_left():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with LiveProgress(console).stage("step 3/30 collect", 4, run_left_s=7200) as on_episode:
        on_episode(make_episode())
        on_episode(make_episode(outcome="failure"))
        time.sleep(0.3)  # it draws ten times a second

    assert re.search(
        r"step 3/30 collect .* 2/4 episodes, 50\.0% success, \S+ episodes/s, \d+ steps/s, "
        r"\d+ s left, run 2 h 00 min left",
        _written(console),
    )


def test_live_display_shows_rollouts_and_update_at_the_same_time():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    progress = LiveProgress(console)
    with progress.stage("step 4/30 collect", 8), progress.stage("step 3/30 update", 0):
        time.sleep(0.3)

    last_frame = _written(console).split("step 4/30 collect")[-1]
    assert "0/8 episodes" in last_frame
    assert "step 3/30 update" in last_frame


def test_live_display_can_be_opened_from_several_threads():
    console = Console(file=io.StringIO(), force_terminal=True)
    progress = LiveProgress(console)

    def work(number):
        for _ in range(20):
            with progress.stage(f"stage {number}", 1) as on_episode:
                on_episode(make_episode())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_work_without_episodes_leaves_no_line(caplog):
    with (
        caplog.at_level(logging.INFO, logger="pi0"),
        LineProgress().stage("step 1/3 update", 0),
        LiveProgress(Console(file=io.StringIO(), force_terminal=True)).stage("update", 0),
    ):
        pass
    assert caplog.messages == []


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


def test_step_line_has_groups_with_signal_and_groups_tried_together():
    metrics = {"rollout/groups_accepted": 6, "rollout/groups_tried": 11, "time/collect_s": 41.23}
    assert step_line(metrics) == "groups 6 of 11, collect 41.2 s"


class Notes:
    """A reporter that remembers."""

    def __init__(self):
        self.logged = []

    def log(self, step, metrics):
        self.logged.append((step, dict(metrics)))

    def close(self):
        self.logged.append("closed")


def test_reporters_pass_everything_on(caplog):
    notes = Notes()
    with caplog.at_level(logging.INFO, logger="pi0"):
        both = Reporters([notes, LineReporter()])
        both.log(3, {"rollout/success_rate": 1.0})
        both.close()
    assert notes.logged == [(3, {"rollout/success_rate": 1.0}), "closed"]
    assert caplog.messages == ["step 3: success 100.0%"]
