"""How long a command may take: by what such commands took, within what the user allows."""

import pytest

from pi0.ript.env.time_limits import TimeLimits


def test_what_was_never_seen_may_take_all_that_is_allowed():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("restore", 0.1)

    assert limits.limit_s({"start": 1}) == 120.0
    assert limits.limit_s({"restore": 1, "build": 1}) == 120.0


def test_a_limit_is_ten_times_the_slowest_pace():
    limits = TimeLimits(timeout_s=120.0)
    for seconds in (0.05, 0.2, 0.02):
        limits.learn("step", seconds)

    assert limits.limit_s({"step": 10}) == pytest.approx(10 * 10 * 0.2)


def test_work_of_several_kinds_adds_up():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("restore", 0.5)
    limits.learn("build", 4.0)

    assert limits.limit_s({"restore": 1, "build": 1}) == pytest.approx(10 * 4.5)


def test_quick_work_has_a_least_limit_and_slow_work_a_most():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("step", 0.001)
    assert limits.limit_s({"step": 1}) == 10.0

    limits.learn("step", 5.0)
    assert limits.limit_s({"step": 10}) == 120.0


def test_the_least_limit_gives_way_to_the_users_own():
    limits = TimeLimits(timeout_s=1.0)
    limits.learn("step", 0.001)
    assert limits.limit_s({"step": 1}) == 1.0


def test_replies_say_what_their_commands_took():
    limits = TimeLimits(timeout_s=1000.0)

    limits.learn_reply({"build_s": 3.0, "restore_s": 0.5, "render_s": 0.5}, num_steps=0)
    # 2 steps with their picture in 1 + 1 seconds: one second a step.
    limits.learn_reply({"physics_s": 1.0, "render_s": 1.0}, num_steps=2)
    # An episode that had been solved before executes nothing and says nothing about steps.
    limits.learn_reply({"physics_s": 50.0}, num_steps=0)

    assert limits.limit_s({"build": 1}) == 30.0
    assert limits.limit_s({"restore": 1}) == 10.0
    assert limits.limit_s({"step": 3}) == 30.0


def test_hangs_in_a_row_double_the_patience_until_something_succeeds():
    limits = TimeLimits(timeout_s=100.0)
    limits.learn("build", 3.0)

    limits.learn_hang()
    assert limits.limit_s({"build": 1}) == 60.0
    limits.learn_hang()
    assert limits.limit_s({"build": 1}) == 100.0  # never beyond what the user allows

    # On a machine that has become slower the build takes 8 s, which is the pace from here on.
    limits.learn_reply({"build_s": 8.0}, num_steps=0)
    assert limits.limit_s({"build": 1}) == 80.0


def test_a_filmed_chunk_may_take_what_its_pictures_take():
    limits = TimeLimits(1000.0)
    limits.learn_reply({"physics_s": 5.0, "render_s": 5.0}, num_steps=10)
    assert limits.limit_s({"step": 10, "frame": 10}) == 1000.0  # no film was seen yet

    # Nine further pictures of 2 s; the tenth is the policy's look.
    limits.learn_reply({"physics_s": 5.0, "render_s": 5.0, "film_s": 18.0}, num_steps=10)
    assert limits.limit_s({"step": 10}) == 100.0
    assert limits.limit_s({"step": 10, "frame": 10}) == 300.0
