"""Policy steps and scorings per second against transformers' own PI0, on the very same weights and inputs.

    python benchmarks/policy.py [--quick] [--json FILE] [--memory] [--precision] [--sizes tiny middle full]

``--processor_time`` counts the processor seconds of one thread instead of wall seconds: numbers that a busy
machine hardly changes.

transformers samples twice: with the two images LIBERO has, and with the third, masked image that pi0
checkpoints are served with. ``full`` needs a GPU.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch
from torch import Tensor
from transformers import PI0ForConditionalGeneration

from benchmarks.network.models import (
    Observations,
    Size,
    make_observations,
    our_network,
    reference_model,
)
from benchmarks.network.policy_memory import measure_apart
from benchmarks.network.policy_precision import measure_precision
from benchmarks.parts.measure import (
    add_output_arguments,
    interleaved,
    median_ratio,
    seconds,
    table,
    write_json,
)
from pi0.model.network import Pi0Network

STEPS = 10  # of transformers' and openpi's default sampling
PACKED = (1, 4, 10)
BATCH = {"tiny": 8, "middle": 8, "full": 32}
SCORED_SAMPLES = {"tiny": 8, "middle": 4, "full": 16}
GPU_BATCHES = (1, 8, 32, 64)


@torch.inference_mode()
def sample_ours(network: Pi0Network, observations: Observations) -> Tensor:
    """Return chunks [B, H, A] as ``Pi0Policy`` draws them without noise."""
    cache = network.prefix(observations.pixels, observations.token_ids, observations.is_valid)
    layout = network.layout(cache, 1, is_static=True)
    grid = network.time_grid(tuple(1.0 - step / STEPS for step in range(STEPS)))
    x = observations.noise
    for step in range(STEPS):
        x = x - network.denoise(cache, observations.state, x, grid[step], layout).float() / STEPS
    return x


def sample_theirs(
    model: PI0ForConditionalGeneration,
    observations: Observations,
    is_real: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Return chunks of transformers' ``sample_actions``."""
    return model.sample_actions(
        state=observations.state.to(dtype),
        input_ids=cast("torch.LongTensor", observations.token_ids),
        pixel_values=observations.pixels.to(dtype),
        noise=observations.noise.to(dtype),
        attention_mask=observations.is_valid.long(),
        pixel_attention_mask=cast("torch.BoolTensor", is_real),
        num_steps=STEPS,
    )


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, its work on the device included: wall, or processor of one thread."""

    def whole() -> None:
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()

    if torch.get_num_threads() > 1 or device.type == "cuda":
        return seconds(whole)
    started = time.process_time()
    whole()
    return time.process_time() - started


def measure_sampling(
    reference: PI0ForConditionalGeneration,
    network: Pi0Network,
    observations: Observations,
    rounds: int,
) -> dict[str, Any]:
    """Return policy steps per second of both and the largest difference between their action chunks."""
    device, dtype = observations.state.device, network.compute_dtype
    two = torch.ones(observations.pixels.shape[:2], dtype=torch.bool, device=device)
    wide, is_real = observations.with_masked_camera()
    sides = {
        "theirs": partial(sample_theirs, reference, observations, two, dtype),
        "theirs_masked": partial(sample_theirs, reference, wide, is_real, dtype),
        "ours": partial(sample_ours, network, observations),
    }
    chunks = {name: side() for name, side in sides.items()}  # and a first call that is not timed
    times = interleaved({n: partial(timed, s, device) for n, s in sides.items()}, rounds)
    samples = len(observations.state)
    return {
        "samples": samples,
        **{f"{n}_policy_steps_per_s": samples / statistics.median(t) for n, t in times.items()},
        "speedup": median_ratio(times["theirs_masked"], times["ours"]),
        "speedup_two_cameras": median_ratio(times["theirs"], times["ours"]),
        "max_difference": max(
            float((chunks[name].float() - chunks["ours"]).abs().max())
            for name in ("theirs", "theirs_masked")
        ),
    }


def score(network: Pi0Network, observations: Observations, num_steps: int) -> None:
    """Read prefixes without and score S steps with gradients, then go back."""
    with torch.no_grad():
        cache = network.prefix(observations.pixels, observations.token_ids, observations.is_valid)
    x = observations.noise[:, None].expand(-1, num_steps, -1, -1)
    times = torch.linspace(1.0, 1.0 / num_steps, num_steps, device=observations.state.device)
    network.velocity(cache, observations.state, x, times).square().mean().backward()
    network.zero_grad(set_to_none=True)


def measure_scoring(network: Pi0Network, observations: Observations, rounds: int) -> dict[str, Any]:
    """Return scorings per second of S packed steps and their cost relative to one step."""
    network.requires_grad_(requires_grad=False)
    for parameter in network.expert_parameters():
        parameter.requires_grad = True
    device = observations.state.device
    sides = {
        f"s{s}": partial(timed, partial(score, network, observations, s), device) for s in PACKED
    }
    for side in sides.values():
        side()
    times = interleaved(sides, rounds)
    samples = len(observations.state)
    return {
        "samples": samples,
        **{f"scorings_per_s_{n}": samples / statistics.median(t) for n, t in times.items()},
        **{f"cost_{n}": median_ratio(times[n], times["s1"]) for n in ("s4", "s10")},
    }


def measure_size(size: Size, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """Return the measurements of one size, one entry per batch."""
    reference = reference_model(size)
    network = our_network(reference, size)
    if device.type == "cuda":
        network.cast_backbone(torch.bfloat16)
        reference.to(device=device, dtype=torch.bfloat16)  # pyright: ignore[reportCallIssue, reportArgumentType]
    network = network.to(device)
    batches = GPU_BATCHES if device.type == "cuda" else (BATCH[size],)
    found = []
    for samples in batches:
        observations = make_observations(network.config, samples).to(device)
        found.append({"size": size, **measure_sampling(reference, network, observations, rounds)})
    scored = make_observations(network.config, SCORED_SAMPLES[size]).to(device)
    found[-1]["scoring"] = measure_scoring(network, scored, rounds)
    return found


def report(found: Sequence[dict[str, Any]]) -> None:
    """Print both tables."""
    columns = (
        "size", "samples", "theirs_masked_policy_steps_per_s", "theirs_policy_steps_per_s",
        "ours_policy_steps_per_s", "speedup", "speedup_two_cameras", "max_difference",
    )  # fmt: skip
    print(table(columns, [[entry[name] for name in columns] for entry in found]), "\n")
    scored = [entry for entry in found if "scoring" in entry]
    names = ("samples", "scorings_per_s_s1", "scorings_per_s_s4", "scorings_per_s_s10", "cost_s4")
    names += ("cost_s10",)
    samples = [[entry["size"], *(entry["scoring"][name] for name in names)] for entry in scored]
    print(table(("size", *names), samples), "\n")


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the headline numbers of the middle size on a CPU."""
    chosen = [entry for entry in found if entry["size"] == "middle" and entry["samples"] == 8]
    if not chosen or "scoring" not in chosen[0]:
        return {}
    return {
        "sampling_speedup_b8_middle": chosen[0]["speedup"],
        "sampling_speedup_b8_middle_two_cameras": chosen[0]["speedup_two_cameras"],
        "packed_scoring_cost_s4": chosen[0]["scoring"]["cost_s4"],
        "packed_scoring_cost_s10": chosen[0]["scoring"]["cost_s10"],
    }


def main() -> None:
    """Measure what the flags name, print it and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_output_arguments(parser)
    parser.add_argument("--sizes", nargs="+", choices=get_args(Size), default=["tiny", "middle"])
    parser.add_argument("--processor_time", action="store_true", help="one thread, its own seconds")
    parser.add_argument("--memory", action="store_true", help="predicted against measured memory")
    parser.add_argument(
        "--precision", action="store_true", help="bfloat16 against float32 by layer"
    )
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "full" in arguments.sizes and device.type == "cpu":
        parser.error("--sizes full needs a GPU; leave it out")
    if arguments.processor_time:
        torch.set_num_threads(1)
    rounds = 2 if arguments.quick else 7
    content: dict[str, Any] = {"threads": torch.get_num_threads(), "device": str(device)}
    if arguments.memory:
        steps = [measure_apart("middle", 8, 4, checkpoints=flag) for flag in (False, True)]
        print(table(tuple(steps[0]), [list(step.values()) for step in steps]))
        content["memory"] = steps
    elif arguments.precision:
        content["precision"] = measure_precision("middle", samples=2)
        print(table(("layer", "relative difference"), content["precision"]["layers"]))
    else:
        found = [f for size in arguments.sizes for f in measure_size(size, device, rounds)]
        report(found)
        content |= summary(found) | {"sizes": found}
    write_json(arguments.json, content, is_quick=arguments.quick)


if __name__ == "__main__":
    main()
