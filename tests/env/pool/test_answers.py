"""What the program makes of an answer, and of workers that owe one."""

from dataclasses import replace

import numpy as np

from pi0.records import Observation
from pi0.ript.env.pool.wire import Answer, as_reply, blame_oldest, pack_reply, unpack_reply
from pi0.ript.interfaces import Reply

OBSERVATION = Observation(images=np.full((1, 2, 2, 3), 7, np.uint8), proprio=np.arange(9.0))
REPLY = Reply(
    slot=1,
    observation=OBSERVATION,
    is_success=False,
    num_steps=3,
    timings={"physics_s": 0.25},
    counts={"scene_builds": 1},
)


def answer(reply, images=None):
    wire = unpack_reply(pack_reply(reply, loaded=()))
    return Answer(slot=5, wire=wire, images=images, frames=None)


def test_an_answer_becomes_the_workers_reply_in_the_pools_numbering():
    reply = as_reply(answer(REPLY, OBSERVATION.images), restart_s=None)

    assert replace(reply, observation=None) == replace(REPLY, slot=5, observation=None)
    np.testing.assert_array_equal(reply.observation.images, OBSERVATION.images)
    np.testing.assert_array_equal(reply.observation.proprio, OBSERVATION.proprio)


def test_the_first_answer_after_a_restart_tells_how_long_it_took():
    unobserved = answer(replace(REPLY, observation=None))

    assert as_reply(unobserved, restart_s=2.5).timings == {"physics_s": 0.25, "restart_s": 2.5}
    assert as_reply(unobserved, restart_s=2.5).observation is None


def test_of_the_slots_that_lose_their_worker_one_tells_the_fault():
    replies = blame_oldest([4, 0, 2], "died", "process 1 died")

    assert [(reply.slot, reply.fault) for reply in replies] == [
        (4, "died"),
        (0, "lost"),
        (2, "lost"),
    ]
    assert {reply.error for reply in replies} == {"process 1 died"}
    assert blame_oldest([], "hung", "no answer") == []
