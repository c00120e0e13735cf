"""A reply is believed only if it can be the answer to the command it answers."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.env.pool.wire import (
    MAX_ERROR_CHARACTERS,
    Request,
    pack_reply,
    unpack_frames,
    unpack_reply,
)
from pi0.ript.interfaces import Reply
from pi0.ript.packed_frames import PackedFrames

SCENES = (("libero_goal", 7),)
OBSERVATION = Observation(images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.arange(9.0))
REPLY = Reply(
    slot=1,
    observation=OBSERVATION,
    is_success=False,
    num_steps=3,
    timings={"physics_s": 0.25},
    counts={"scene_builds": 1},
)
CHUNK = Request(place=1, work={"step": 3}, num_steps=3)
FIELDS = ("place", "proprio", "is_success", "num_steps", "error", "fault", "timings", "counts", "frames_bytes", "loaded")  # fmt: skip


def unpacked(reply):
    return unpack_reply(pack_reply(reply, SCENES))


def test_a_reply_arrives_as_it_was_sent():
    wire = unpacked(REPLY)

    CHUNK.check(wire)
    assert (wire.place, wire.num_steps, wire.loaded) == (1, 3, SCENES)
    assert (wire.timings, wire.counts) == (REPLY.timings, REPLY.counts)
    np.testing.assert_array_equal(wire.proprio, OBSERVATION.proprio)


def test_a_crash_arrives_with_its_reason():
    wire = unpacked(replace(REPLY, observation=None, num_steps=0, error="boom", fault="raised"))

    CHUNK.check(wire)
    assert (wire.error, wire.fault, wire.proprio) == ("boom", "raised", None)


def test_a_long_reason_is_cut():
    wire = unpacked(replace(REPLY, observation=None, error="x" * 10**6, fault="raised"))
    assert len(wire.error) == MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("place", -1),
        ("place", True),
        ("place", "1"),
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
        ("frames_bytes", b"film"),
        ("loaded", ("libero_goal",)),
        ("loaded", (("libero_goal", "7"),)),
    ],
)
def test_a_field_of_the_wrong_kind_is_nonsense(field, wrong):
    values = dict(zip(FIELDS, pack_reply(REPLY, SCENES), strict=True))
    with pytest.raises(MalformedMessageError):
        unpack_reply(tuple({**values, field: wrong}.values()))


@pytest.mark.parametrize("change", [lambda values: values[:-1], lambda values: (*values, 0)])
def test_a_field_too_few_or_too_many_is_nonsense(change):
    with pytest.raises(MalformedMessageError, match="has 10 fields, got"):
        unpack_reply(change(pack_reply(REPLY, SCENES)))


@pytest.mark.parametrize(
    ("request", "changes", "message"),
    [
        (CHUNK, {"slot": 0}, "slot 0 answers, 1 was asked"),
        (CHUNK, {"num_steps": 4}, "4 steps of 3"),
        (CHUNK, {"num_steps": 2}, "2 steps of 3"),  # only success ends a chunk early
        (CHUNK, {"observation": None}, "without a look"),
        (Request(place=1, work={"restore": 1}), {"num_steps": 0, "is_success": True}, "solved"),
        (Request(place=1, work={"restore": 1}), {"num_steps": 1}, "1 steps of 0"),
    ],
)
def test_an_answer_that_the_command_cannot_have_is_nonsense(request, changes, message):
    with pytest.raises(MalformedMessageError, match=message):
        request.check(unpacked(replace(REPLY, **changes)))


def test_success_may_end_a_chunk_early_and_needs_no_look():
    CHUNK.check(unpacked(replace(REPLY, is_success=True, num_steps=1, observation=None)))


def test_a_look_nobody_asked_for_may_be_missing():
    unobserved = replace(CHUNK, may_lack_observation=True)
    unobserved.check(unpacked(replace(REPLY, observation=None)))


SPEC = ObservationSpec(cameras=("agentview",), height=2, width=2)
VIDEO = PackedFrames.pack(np.arange(36, dtype=np.uint8).reshape(3, 1, 2, 2, 3))
RECORDED = replace(CHUNK, record_video=True)


def test_a_film_arrives_with_the_reply_it_belongs_to():
    wire = unpacked(replace(REPLY, frames=VIDEO))

    RECORDED.check(wire)
    assert unpack_frames(wire, VIDEO.packed, SPEC) == VIDEO


def test_a_reply_without_a_film_brings_none():
    assert unpack_frames(unpacked(REPLY), b"", SPEC) is None


@pytest.mark.parametrize(
    ("request", "changes"),
    [
        (CHUNK, {"frames": VIDEO}),
        (RECORDED, {}),
        (Request(place=1, work={"restore": 1}), {"frames": VIDEO, "num_steps": 0}),
        (RECORDED, {"frames": VIDEO, "num_steps": 0, "is_success": True}),
        (RECORDED, {"frames": VIDEO, "observation": None, "error": "boom", "fault": "raised"}),
    ],
    ids=["not wanted", "missing", "of a restore", "of no step", "of a crash"],
)
def test_a_film_where_none_can_be_and_none_where_one_must_be_are_nonsense(request, changes):
    with pytest.raises(MalformedMessageError, match="a film of"):
        request.check(unpacked(replace(REPLY, **changes)))


@pytest.mark.parametrize(
    ("packed", "num_steps"),
    [(VIDEO.packed, 2), (VIDEO.packed[:-1], 3), (bytes(len(VIDEO.packed)), 3)],
    ids=["of other steps", "cut off", "of nothing"],
)
def test_a_film_that_does_not_show_every_step_is_nonsense(packed, num_steps):
    wire = unpacked(replace(REPLY, frames=VIDEO, num_steps=num_steps))
    with pytest.raises(MalformedMessageError, match="a film"):
        unpack_frames(wire, packed, SPEC)
