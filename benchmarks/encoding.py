"""Rows per second of encoding for the learner: images as rendered against images that workers have encoded.

    python benchmarks/encoding.py [--quick] [--json FILE]

openpi's LIBERO protocol: two cameras, 256 x 256 rendered, 224 x 224 read. ``rendered`` is what a policy call, and
the update once more, did with every observation of a run; ``encoded`` is what is left of it. ``worker`` is what a
worker does instead, once per observation and in parallel with the others. ``padded`` is ``rendered`` in a call of
one observation that is filled to ``BATCH`` with copies, as every call was. All in one thread.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np

from benchmarks.parts.measure import add_output_arguments, interleaved, table, write_json
from pi0.checkpoint import load_policy
from pi0.codec import Codec
from pi0.images import encode_observation
from pi0.records import Observation

BATCH = 32


def make_codec() -> Codec:
    """Return the codec of openpi's protocol, with the embedded policy's statistics."""
    policy = load_policy("builtin")
    card = replace(policy.card, render_size=256, image_size=224, resize="openpi", rotate_180=True)
    return Codec(card=card, stats=policy.codec.stats)


def processor_seconds(action: Callable[[], object]) -> float:
    """Return the processor seconds of one call, which a busy machine hardly changes."""
    started = time.process_time()
    action()
    return time.process_time() - started


def main(argv: Sequence[str]) -> None:
    """Measure, print a table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_output_arguments(parser)
    arguments = parser.parse_args(argv)
    codec, generator = make_codec(), np.random.default_rng(0)
    encoding, cameras = codec.card.encoding, len(codec.card.cameras)
    assert encoding is not None
    rendered = [
        Observation(
            images=generator.integers(0, 256, (cameras, 256, 256, 3), dtype=np.uint8),
            proprio=np.zeros(9),
        )
        for _ in range(BATCH)
    ]
    encoded = [encode_observation(observation, encoding) for observation in rendered]
    assert np.array_equal(codec.encode_images(rendered), codec.encode_images(encoded))
    sides: dict[str, Callable[[], object]] = {
        "rendered": lambda: codec.encode_images(rendered),
        "encoded": lambda: codec.encode_images(encoded),
        "worker": lambda: [encode_observation(one, encoding) for one in rendered],
        "padded": lambda: codec.encode_images([rendered[0]] * BATCH),
    }
    timed = {
        name: lambda action=action: processor_seconds(action) for name, action in sides.items()
    }
    seconds = interleaved(timed, rounds=5 if arguments.quick else 30)
    rows = {name: BATCH / statistics.median(times) for name, times in seconds.items()}
    rows["padded"] /= BATCH  # one row of each call was asked for
    print(table(("", "rows/s", "ms/row"), [[n, rate, 1e3 / rate] for n, rate in rows.items()]))
    write_json(arguments.json, {"rows_per_s": rows}, is_quick=arguments.quick)


if __name__ == "__main__":
    main(sys.argv[1:])
