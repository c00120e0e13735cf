"""Requests to real workers, and waiting for what they reply."""

from pi0.ript.env.initial_states import make_initial_state

STATE = make_initial_state("libero_goal", 7, 0, fixture_seed=0)


def wait_for(pool, count, begin=lambda: None):
    begin()
    replies = []
    while len(replies) < count:
        replies += pool.wait()
    return {reply.slot: reply for reply in replies}
