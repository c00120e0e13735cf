"""The parts of the programs that take inputs, each with what must hold when an input is accepted."""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from hypothesis import strategies as st

from pi0.norm_stats import read_norm_stats
from pi0.ript.config.load import load_launch, read_config, to_yaml
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.pool.messages import Channel, MalformedMessageError, frame
from pi0.ript.env.pool.wire import Request, pack_reply, unpack_reply
from pi0.ript.evaluation.episodes import read_evaluation
from pi0.ript.interfaces import Reply
from pi0.ript.report.jsonl import JsonlReporter
from tests.env.toys import SPEC
from tests.evaluation.records import make_record
from tests.fuzz.checkpoints import FORGERIES, damaged_checkpoint, forged_checkpoint
from tests.fuzz.inputs import COMMAND_LINES, EDITS, VALUES, config_texts, damage
from tests.fuzz.judge import FindingError
from tests.fuzz.live_pool import DAMAGED, FORGED, take_damaged, take_forged
from tests.fuzz.saved_run import SavedRun
from tests.policy_parts import small_card, small_stats
from tests.train.toy_run import ToyRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A part of the programs that takes inputs.

    Attributes:
        share: Share of all inputs, in [0, 1].
        inputs: What to try.
        take: Tries one against a saved run; returns whether it was accepted, raises what users would get.
    """

    share: float
    inputs: st.SearchStrategy[Any]
    take: Callable[[SavedRun, Any], bool]


def require(holds: bool, what: str) -> None:
    if not holds:
        raise FindingError(what)


def take_config(run: SavedRun, content: bytes) -> bool:
    """A configuration that is accepted means the same once it has been written and read again."""
    path = run.folder.parent / "fuzzed.yaml"
    path.write_bytes(content)
    config = read_config(path)
    path.write_text(to_yaml(config))
    require(read_config(path) == config, "the written configuration reads back differently")
    return True


def take_command_line(run: SavedRun, argv: list[str]) -> bool:
    launch = load_launch(argv)
    require(isinstance(launch.config, TrainConfig), "no configuration")
    return True


def take_norm_stats(run: SavedRun, content: bytes) -> bool:
    path = run.folder.parent / "norm_stats.json"
    path.write_bytes(content)
    stats = read_norm_stats(path, small_card())
    for group in (stats.state, stats.actions):
        for values in group.values():
            require(bool(np.isfinite(values).all()), "statistics that are not finite")
    return True


BLANK = np.zeros((1, SPEC.height, SPEC.width, 3), np.uint8)


class _StillPolicy:
    spec = small_card().spec


def take_initial_states(run: SavedRun, states: list[np.ndarray]) -> bool:
    runner = ToyRunner(_StillPolicy(), "libero_goal", rollouts_per_env=max(1, len(states)))
    runner.run_policy_in_env("turn_on_the_stove", states).close()
    require(all(np.isfinite(s).all() and s.shape == (79,) for s in states), "wrong states accepted")
    return True


def take_message(run: SavedRun, content: bytes) -> bool:
    """What a worker sends is a possible reply, or it is malformed; receiving it never waits."""
    ours, theirs = socket.socketpair()
    request = Request(worker_slot=1, slot=5, work={"step": 4}, num_steps=4)
    with Channel(ours) as channel, theirs:
        theirs.sendall(content)
        theirs.close()
        try:
            _, *values = channel.receive(timeout_s=5.0)
            reply, _ = unpack_reply(tuple(values), request, SPEC, lambda: BLANK, bytes)
        except (EOFError, MalformedMessageError):
            return False
    require(0 <= reply.num_steps <= 4 and reply.slot == 5, "an impossible reply")
    return True


def take_metrics(run: SavedRun, edits: list[tuple[str, float, bytes]]) -> bool:
    """A damaged metrics file is refused, or goes on with whole records up to the step resumed."""
    path = run.folder / "metrics.jsonl"
    path.write_bytes(damage((run.original / "metrics.jsonl").read_bytes(), edits))
    reporter = JsonlReporter(path, last_step=1)
    reporter.log(2, {"rollout/success_rate": 0.25})
    reporter.close()
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    newest = {"step": 2, "rollout/success_rate": 0.25}
    require(records[-1] == newest, "the new record is not the last")
    require(all(record["step"] <= 1 for record in records[:-1]), "a step has two records")
    return True


def take_evaluation(run: SavedRun, edits: list[tuple[str, float, bytes]]) -> bool:
    """Held-out episodes are read as they were written or not at all."""
    name = "evaluations/step_0.json"
    path = run.folder / name
    path.write_bytes(damage((run.original / name).read_bytes(), edits))
    require(read_evaluation(path) == [make_record()], "other episodes than were written")
    return True


def _reply(**changes: Any) -> tuple[Any, ...]:
    values: dict[str, Any] = {
        "slot": 1, "observation": None, "is_success": True, "num_steps": 3,
        "timings": {"physics_s": 0.5}, **changes,
    }  # fmt: skip
    return ("reply", *pack_reply(Reply(**values), (("libero_goal", 7),)))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A real reply with one field replaced, or with damaged bytes, or bytes of any kind."""
    reply = list(_reply())
    if draw(st.booleans()):
        field = draw(st.integers(0, len(reply) - 1))
        reply[field] = draw(st.one_of(VALUES, st.binary(max_size=80)))
    try:
        packed = msgpack.packb(tuple(reply))
    except (OverflowError, UnicodeEncodeError):  # nothing that msgpack could send
        packed = b""
    # Damage inside of a frame with the right checksum reaches the checks behind it.
    match draw(st.sampled_from(("whole", "damaged", "framed"))):
        case "damaged":
            return damage(frame(packed), draw(EDITS))
        case "framed":
            return frame(damage(packed, draw(EDITS)))
    return frame(packed)


@st.composite
def statistics(draw: st.DrawFn) -> bytes:
    """Real statistics with damaged bytes, or with one entry replaced."""
    text = small_stats().to_json()
    if draw(st.booleans()):
        return damage(text.encode(), draw(EDITS))
    content = json.loads(text)
    group = draw(st.sampled_from(("state", "actions")))
    statistic = draw(st.sampled_from(("mean", "std", "q01", "q99")))
    content["norm_stats"][group][statistic] = draw(VALUES)
    return json.dumps(content).encode()


NUMBERS = st.floats(width=64) | st.sampled_from([0.0, float("nan"), float("inf")])
STATES = st.lists(
    st.builds(
        lambda length, value, index: np.where(np.arange(length) == index, value, 0.1),
        st.sampled_from([79, 79, 79, 78, 80, 0, 1]),
        NUMBERS,
        st.integers(0, 90),
    ),
    min_size=1,
    max_size=3,
)

TARGETS: dict[str, Target] = {
    "configurations": Target(share=0.25, inputs=config_texts(), take=take_config),
    "command lines": Target(share=0.1, inputs=COMMAND_LINES, take=take_command_line),
    "norm stats": Target(share=0.1, inputs=statistics(), take=take_norm_stats),
    "initial states": Target(share=0.05, inputs=STATES, take=take_initial_states),
    "worker replies": Target(share=0.18, inputs=messages(), take=take_message),
    # Most of these cost a worker, i.e. a third of a second.
    "damaged replies": Target(
        share=0.01, inputs=DAMAGED, take=lambda run, edits: take_damaged(run.live_pool, edits)
    ),
    "forged replies": Target(
        share=0.01, inputs=FORGED, take=lambda run, change: take_forged(run.live_pool, change)
    ),
    "metrics": Target(share=0.05, inputs=EDITS, take=take_metrics),
    "evaluations": Target(share=0.05, inputs=EDITS, take=take_evaluation),
    "damaged checkpoints": Target(
        share=0.1, inputs=st.tuples(st.integers(0, 99), EDITS), take=damaged_checkpoint
    ),
    "forged checkpoints": Target(share=0.1, inputs=FORGERIES, take=forged_checkpoint),
}
