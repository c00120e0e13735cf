"""What the programs are given: real files, damaged; and texts that make no sense."""

import json
import string
from pathlib import Path

from hypothesis import strategies as st

from pi0.ript.config.decode import known_keys
from pi0.ript.config.legacy import LEGACY
from pi0.ript.config.schema import TrainConfig

ROOT = Path(__file__).parents[2]
SHIPPED = [path.read_bytes() for path in sorted((ROOT / "pi0/ript/config").glob("*.yaml"))]
KEYS = (*known_keys(TrainConfig), *sorted(LEGACY))

# Values that have surprised parsers before.
AWKWARD = (
    "", "null", "~", "true", "yes", "0", "-1", "1e-5", "1e999", "-.inf", ".nan", "0x10", "010", "1_000",
    "[]", "{}", "[[", "a: b", "!!python/object/apply:os.system [true]", "&a [*a]", "../../x", "/dev/null",
    "\x00", "auto", "builtin", "99999999999999999999", "libero_goal", "'", '"', "<<: 1", "2024-01-01",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(AWKWARD),
    st.text(max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)
# One change of a file: kind, position as a share of its length, what is put there.
EDITS = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "remove", "insert", "double", "zero")),
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([text.encode() for text in AWKWARD if text]),
        ),
    ),
    min_size=1,
    max_size=3,
)


def damage(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Return a file's content after the edits."""
    for kind, position, data in edits:
        at = int(position * len(content))
        before, after = content[:at], content[at:]
        match kind:
            case "flip" if after:
                content = before + bytes([after[0] ^ 1 << data[0] % 8]) + after[1:]
            case "cut":
                content = before
            case "remove":
                content = before + after[len(data) :]
            case "insert":
                content = before + data + after
            case "double":
                content = before + after[:40] + after
            case "zero":
                content = before + bytes(min(len(after), 8)) + after[8:]
    return content


def nested(dotted: str, value: object) -> dict[str, object]:
    """Return ``{"a": {"b": value}}`` for ``a.b``."""
    head, _, tail = dotted.partition(".")
    return {head: nested(tail, value) if tail else value}


@st.composite
def config_texts(draw: st.DrawFn) -> bytes:
    """A shipped configuration that was damaged, or a key with a value that makes no sense."""
    if draw(st.booleans()):
        return damage(draw(st.sampled_from(SHIPPED)), draw(EDITS))
    if draw(st.booleans()):
        return draw(st.text(st.sampled_from(string.printable), max_size=80)).encode()
    settings = nested(draw(st.sampled_from(KEYS)), draw(VALUES))
    # JSON is YAML, except for NaN and infinity, which become texts.
    return json.dumps(settings).encode()


COMMAND_LINES = st.lists(
    st.one_of(
        st.builds(
            lambda key, value: f"--{key}={value}", st.sampled_from(KEYS), st.sampled_from(AWKWARD)
        ),
        st.builds(
            lambda key, value: f"--{key}={value}", st.sampled_from(KEYS), st.text(max_size=8)
        ),
        st.sampled_from(("--config_path", "--resume", "--override", "--", "-x", "--help", "")),
        st.text(max_size=8),
    ),
    max_size=4,
)
