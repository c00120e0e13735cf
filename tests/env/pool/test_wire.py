"""A worker's message becomes the pool's reply only if it can be the reply to the request."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.env.pool.wire import (
    MAX_ERROR_CHARACTERS,
    Request,
    blame_oldest,
    pack_reply,
    unpack_reply,
)
from pi0.ript.interfaces import Reply
from pi0.ript.packed_frames import PackedFrames

SPEC = ObservationSpec(cameras=("agentview",), height=2, width=2)
SCENES = (("libero_goal", 7),)
OBSERVATION = Observation(images=np.full((1, 2, 2, 3), 7, np.uint8), proprio=np.arange(9.0))
REPLY = Reply(
    slot=1,
    observation=OBSERVATION,
    is_success=False,
    num_steps=3,
    timings={"physics_s": 0.25},
    counts={"scene_builds": 1},
)
# Slot 1 of its worker is slot 5 of the pool.
EXECUTE = Request(worker_slot=1, slot=5, work={"step": 3}, num_steps=3)
RESTORE = Request(worker_slot=1, slot=5, work={"restore": 1})
VIDEO = PackedFrames.pack(np.arange(36, dtype=np.uint8).reshape(3, 1, 2, 2, 3))
RECORDED = replace(EXECUTE, record_video=True)
FIELDS = ("worker_slot", "proprio", "is_success", "num_steps", "error", "fault", "timings", "counts",
          "frames_bytes", "loaded")  # fmt: skip


def read_images():
    return OBSERVATION.images.copy()


def unpacked(values, request=EXECUTE, packed=b""):
    return unpack_reply(values, request, SPEC, read_images, lambda _: packed)


def arrived(reply, request=EXECUTE):
    """What the pool makes of a worker's reply to the request."""
    packed = b"" if reply.frames is None else reply.frames.packed
    return unpacked(pack_reply(reply, SCENES), request, packed)


def test_a_reply_arrives_as_it_was_sent_in_the_numbering_of_the_pool():
    reply, loaded = arrived(REPLY)

    assert loaded == SCENES
    assert replace(reply, observation=None) == replace(REPLY, slot=5, observation=None)
    np.testing.assert_array_equal(reply.observation.images, OBSERVATION.images)
    np.testing.assert_array_equal(reply.observation.proprio, OBSERVATION.proprio)


def test_a_crash_arrives_with_its_reason():
    crash = replace(REPLY, observation=None, num_steps=0, error="boom", fault="raised")

    assert arrived(crash)[0] == replace(crash, slot=5)


def test_a_divergence_arrives_with_the_steps_up_to_it():
    diverged = replace(REPLY, observation=None, num_steps=2, error="at action", fault="diverged")

    assert arrived(diverged)[0] == replace(diverged, slot=5)
    with pytest.raises(MalformedMessageError, match="4 steps of 3"):
        arrived(replace(diverged, num_steps=4))


def test_a_long_reason_is_cut():
    reply, _ = arrived(replace(REPLY, observation=None, error="x" * 10**6, fault="raised"))
    assert len(reply.error) == MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("worker_slot", -1),
        ("worker_slot", True),
        ("worker_slot", "1"),
        ("proprio", "nine numbers"),
        ("proprio", bytes(8)),
        ("proprio", np.full(9, np.nan).tobytes()),
        ("proprio", np.full(9, np.inf).tobytes()),
        ("is_success", 1),
        ("num_steps", -1),
        ("num_steps", 3.0),
        ("error", None),
        ("error", "a reason without a fault"),
        ("fault", "raised"),
        ("fault", "bored"),
        ("fault", ("raised",)),
        ("timings", 3),
        ("timings", (("physics_s",),)),
        ("timings", (("physics_s", -1.0),)),
        ("timings", (("physics_s", float("nan")),)),
        ("timings", ((1, 1.0),)),
        ("counts", (("scene_builds", 1.5),)),
        ("counts", (("scene_builds", -1),)),
        ("frames_bytes", -1),
        ("frames_bytes", True),
        ("frames_bytes", b"video"),
        ("loaded", ("libero_goal",)),
        ("loaded", (("libero_goal", "7"),)),
    ],
)
def test_a_field_of_the_wrong_kind_is_malformed(field, wrong):
    values = dict(zip(FIELDS, pack_reply(REPLY, SCENES), strict=True))
    with pytest.raises(MalformedMessageError):
        unpacked(tuple({**values, field: wrong}.values()))


@pytest.mark.parametrize("change", [lambda values: values[:-1], lambda values: (*values, 0)])
def test_a_field_too_few_or_too_many_is_malformed(change):
    with pytest.raises(MalformedMessageError, match="has 10 fields, got"):
        unpacked(change(pack_reply(REPLY, SCENES)))


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (EXECUTE, {"slot": 0}, "a reply of slot 0 to a request for slot 1"),
        (EXECUTE, {"num_steps": 4}, "4 steps of 3"),
        (EXECUTE, {"num_steps": 2}, "2 steps of 3"),  # only success ends an action chunk early
        (EXECUTE, {"observation": None}, "without an observation"),
        (RESTORE, {"num_steps": 0, "is_success": True}, "solved without a step"),
        (RESTORE, {"num_steps": 1}, "1 steps of 0"),
    ],
)
def test_a_reply_that_the_request_cannot_have_is_malformed(case, changes, message):
    with pytest.raises(MalformedMessageError, match=message):
        arrived(replace(REPLY, **changes), case)


def test_success_may_end_an_action_chunk_early_and_needs_no_observation():
    solved, _ = arrived(replace(REPLY, is_success=True, num_steps=1, observation=None))
    assert (solved.is_success, solved.num_steps, solved.observation) == (True, 1, None)


def test_an_observation_that_was_not_requested_may_be_missing():
    unobserved = replace(EXECUTE, may_lack_observation=True)
    assert arrived(replace(REPLY, observation=None), unobserved)[0].observation is None


def test_a_video_arrives_with_the_reply_it_belongs_to():
    assert arrived(replace(REPLY, frames=VIDEO), RECORDED)[0].frames == VIDEO


def test_a_reply_without_a_video_has_no_frames():
    assert arrived(REPLY)[0].frames is None


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        (EXECUTE, {"frames": VIDEO}),
        (RECORDED, {}),
        (RESTORE, {"frames": VIDEO, "num_steps": 0}),
        (RECORDED, {"frames": VIDEO, "num_steps": 0, "is_success": True}),
        (RECORDED, {"frames": VIDEO, "observation": None, "error": "boom", "fault": "raised"}),
    ],
    ids=["not requested", "missing", "of a restore", "of no step", "of a crash"],
)
def test_a_video_where_none_can_be_and_none_where_one_must_be_are_malformed(case, changes):
    with pytest.raises(MalformedMessageError, match="a video of"):
        arrived(replace(REPLY, **changes), case)


@pytest.mark.parametrize(
    ("packed", "num_steps"),
    [(VIDEO.packed, 2), (VIDEO.packed[:-1], 3), (bytes(len(VIDEO.packed)), 3)],
    ids=["of other steps", "cut off", "of nothing"],
)
def test_a_video_that_does_not_show_every_step_is_malformed(packed, num_steps):
    sent = pack_reply(replace(REPLY, frames=VIDEO, num_steps=num_steps), SCENES)
    with pytest.raises(MalformedMessageError, match="a video"):
        unpacked(sent, replace(RECORDED, num_steps=num_steps), packed)


@pytest.mark.parametrize(
    "changes",
    [{"slot": 0}, {"num_steps": 4}, {"timings": {"physics_s": -1.0}}, {"frames": VIDEO}],
    ids=["another slot", "too many steps", "a negative time", "a video"],
)
def test_no_image_is_read_for_a_malformed_reply(changes):
    def fail(*_):
        pytest.fail("read for a malformed reply")

    with pytest.raises(MalformedMessageError):
        unpack_reply(pack_reply(replace(REPLY, **changes), SCENES), EXECUTE, SPEC, fail, fail)


def test_of_the_slots_that_lose_their_worker_one_has_the_fault():
    replies = blame_oldest([4, 0, 2], "died", "process 1 ended")

    assert [(reply.slot, reply.fault) for reply in replies] == [
        (4, "died"),
        (0, "lost"),
        (2, "lost"),
    ]
    assert {reply.error for reply in replies} == {"process 1 ended"}
    assert blame_oldest([], "hung", "no reply") == []
