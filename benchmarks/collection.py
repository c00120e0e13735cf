"""How well a step's collection uses its slots where groups are rejected: simulated, every slot a worker of its own.

    python benchmarks/collection.py [--quick] [--json FILE]

Which rollouts are requested and when a step is over is the project's own code; episodes are made up: a group is
uniform with the given chance, half of the uniform ones succeed throughout. Successes take 60 to 200 control
steps, failures 220, every control step the same time. ``waves`` opens a group once it is needed, ``spare`` also
where a slot would idle.
"""

import argparse
import heapq
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np

from benchmarks.parts.measure import add_output_arguments, table, write_json
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.seeding import derive_seed
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.types import Episode, EpisodeRequest, InitialState, Outcome

LIMIT = 220  # control steps of a failure, the limit of LIBERO's shortest suite
SUCCESS = (60, 200)
GROUPS, GROUP_SIZE = 8, 8
REJECTED = (0.2, 0.5, 0.8)
SLOTS = (16, 64)


@dataclass
class States:
    """Deals one state for ever."""

    cursor: int = 0

    def next(self) -> InitialState:
        """Return the state."""
        self.cursor += 1
        return InitialState(
            suite="libero_goal", task_id=0, index=0, fixture_seed=0, state=np.zeros(1)
        )


def outcome_of(request: EpisodeRequest, rejected: float, seed: int) -> tuple[Outcome, int]:
    """Return how an episode ends and after how many control steps."""
    group = np.random.default_rng(derive_seed(seed, "group", request.group))
    is_uniform, kind = group.random() < rejected, group.random()
    successes = GROUP_SIZE * (kind < 0.5) if is_uniform else group.integers(1, GROUP_SIZE)
    if request.rollout >= successes:
        return "failure", LIMIT
    own = np.random.default_rng(derive_seed(seed, "episode", request.group, request.rollout))
    return "success", int(own.integers(*SUCCESS))


def simulate(slots: int, rejected: float, seed: int, *, has_spares: bool) -> dict[str, float]:
    """Collect one step and return its time in control steps and what slots did meanwhile."""
    algo = AlgoConfig(demo_batch_size=GROUPS, rloo_batch_size=GROUP_SIZE, max_sampling_attempts=100)
    sampling = DynamicSampling(States(), lambda _: LIMIT, algo, seed)
    order, now, busy, useful = itertools.count(), 0, 0.0, {}
    under_way: list[tuple[int, int, int, EpisodeRequest, Outcome]] = []
    while not sampling.is_over:
        while len(under_way) < slots:
            request = sampling.next_request() or (sampling.next_spare() if has_spares else None)
            if request is None:
                break
            outcome, steps = outcome_of(request, rejected, seed)
            heapq.heappush(under_way, (now + steps, next(order), now, request, outcome))
        now, _, started, request, outcome = heapq.heappop(under_way)
        busy += now - started
        useful[request.group] = useful.get(request.group, 0) + now - started
        sampling.add(
            Episode(
                request=request, task="", policy_steps=(), outcome=outcome, num_steps=now - started
            )
        )
    busy += sum(now - started for _, _, started, _, _ in under_way)
    rollouts = sampling.result()
    needed = sum(useful[group] for group in range(rollouts.num_tried))
    return {"time": now, "busy": busy / (slots * now), "needed": needed / (slots * now)}


def measure(slots: int, rejected: float, num_steps: int) -> dict[str, Any]:
    """Return the means over steps of both ways, and how many times faster spare groups are."""
    runs = {
        name: [simulate(slots, rejected, seed, has_spares=flag) for seed in range(num_steps)]
        for name, flag in (("waves", False), ("spare", True))
    }
    mean = {
        f"{name}_{key}": statistics.fmean(run[key] for run in found)
        for name, found in runs.items()
        for key in found[0]
    }
    return {
        "slots": slots,
        "rejected": rejected,
        **mean,
        "speedup": mean["waves_time"] / mean["spare_time"],
    }


def main(argv: Sequence[str]) -> None:
    """Simulate, print a table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_output_arguments(parser)
    arguments = parser.parse_args(argv)
    num_steps = 10 if arguments.quick else 100
    found = [measure(slots, rejected, num_steps) for slots in SLOTS for rejected in REJECTED]
    names = (
        "slots",
        "rejected",
        "waves_busy",
        "spare_busy",
        "waves_needed",
        "spare_needed",
        "speedup",
    )
    print(table(names, [[entry[name] for name in names] for entry in found]))
    write_json(arguments.json, {"found": found, "steps": num_steps}, is_quick=arguments.quick)


if __name__ == "__main__":
    main(sys.argv[1:])
