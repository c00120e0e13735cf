"""How far bfloat16 leads from float32 on the same weights, layer by layer."""

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.network.models import (
    Observations,
    Size,
    make_observations,
    our_network,
    reference_model,
)
from pi0.model.cache import PrefixCache
from pi0.model.network import Pi0Network


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the root mean square difference as a share of the root mean square value."""
    difference = (found.float() - expected.float()).square().mean().sqrt()
    return float(difference / expected.float().square().mean().sqrt())


@torch.inference_mode()
def _passes(network: Pi0Network, observations: Observations) -> tuple[PrefixCache, Tensor]:
    cache = network.prefix(observations.pixels, observations.token_ids, observations.is_valid)
    times = torch.tensor([1.0, 0.75, 0.5, 0.25])
    x = observations.noise[:, None].expand(-1, 4, -1, -1)
    return cache, network.velocity(cache, observations.state, x, times)


def measure_precision(size: Size, samples: int) -> dict[str, Any]:
    """Return relative differences of every layer's keys and values and of the velocity."""
    reference = reference_model(size)
    observations = make_observations(reference.config, samples)
    exact, exact_velocity = _passes(our_network(reference, size), observations)
    half = our_network(reference, size)
    half.cast_backbone(torch.bfloat16)
    rough, rough_velocity = _passes(half, observations)
    layers: list[tuple[str, float]] = []
    for number, pairs in enumerate(
        zip(rough.keys, exact.keys, rough.values, exact.values, strict=True)
    ):
        layers.append((f"keys of layer {number}", _relative(pairs[0], pairs[1])))
        layers.append((f"values of layer {number}", _relative(pairs[2], pairs[3])))
    layers.append(("velocity", _relative(rough_velocity, exact_velocity)))
    assert all(math.isfinite(value) for _, value in layers)
    return {"samples": samples, "size": size, "layers": layers}
