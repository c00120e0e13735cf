"""What a machine with one GPU makes of a pi0 of full size; random weights, two cameras, bfloat16, ten denoise steps.

    python benchmarks/gpu.py [--rehearse] [--parts sampling company learning rendering step] [--json FILE]

Every part is written to ``--json`` as soon as it is there; one that fails is named and the others go on.
``sampling``: milliseconds per sample in calls of 1, 8, 32 and 64 against transformers' ``sample_actions``, and of the
same calls by CUDA graphs.
``company``: how far action chunks move where samples change places, and between calls of 1 and of the largest size.
``learning``: packed scoring and an expert-only update, seconds and peak memory against what ``ript plan`` says.
``rendering``: milliseconds per observation of two exact images, by the GPU and by the software renderer.
``step``: one training step of the quickstart on the GPU.
``--rehearse`` runs all of it small, on whatever there is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch
from torch import Tensor

from benchmarks.network.models import (
    Observations,
    Size,
    make_observations,
    our_network,
    reference_model,
)
from benchmarks.parts.measure import output_file, write_json
from benchmarks.policy import measure_sampling, sample_ours, timed
from pi0.model.memory import TrainedPart, predict_network
from pi0.model.network import Pi0Network
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine

RENDER = """
import sys, numpy as np
from pi0.records import ObservationSpec
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.initial_states import make_initial_state
size, steps = int(sys.argv[1]), int(sys.argv[2])
spec = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), height=size, width=size)
with InlinePool(spec, 1, max_scenes=1, num_steps_wait=0) as pool:
    pool.restore(0, make_initial_state("libero_goal", 7, 0, fixture_seed=0))
    pool.wait()
    seconds = []
    for _ in range(steps):
        pool.execute(0, np.zeros((1, 7), np.float32))
        (reply,) = pool.wait()
        seconds.append(reply.timings["render_s"])
print(1e3 * sorted(seconds)[len(seconds) // 2])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large everything is.

    Attributes:
        device: Where networks run.
        size: Of the networks.
        batches: Samples of the calls.
        rounds: Timings of each.
        scored: Samples of a micro-batch.
        image_size: Height and width of rendered images.
        draws: Observations drawn.
        step_flags: Of the training step.
    """

    device: torch.device
    size: Size
    batches: tuple[int, ...]
    rounds: int
    scored: int
    image_size: int
    draws: int
    step_flags: tuple[str, ...]


FULL = Scale(
    device=torch.device("cuda"), size="full", batches=(1, 8, 32, 64), rounds=5, scored=16,
    image_size=256, draws=50, step_flags=("--policy.device", "cuda"),
)  # fmt: skip
REHEARSAL = Scale(
    device=torch.device("cpu"), size="tiny", batches=(1, 2, 4), rounds=1, scored=2, image_size=32,
    draws=3,
    step_flags=("--policy.device", "cpu", "--algo.demo_batch_size", "1", "--algo.rloo_batch_size", "2",
                "--algo.max_sampling_attempts", "1", "--task.max_episode_length", "8",
                "--env.num_workers", "1"),
)  # fmt: skip


class Networks:
    """The same random weights as transformers' model and as ours, built once they are needed."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._both: tuple[Any, Pi0Network] | None = None

    def both(self) -> tuple[Any, Pi0Network]:
        """Return transformers' model and our network, on the device."""
        if self._both is None:
            reference: Any = reference_model(self._scale.size)
            network = our_network(reference, self._scale.size)
            if self._scale.device.type == "cuda":
                network.cast_backbone(torch.bfloat16)
                reference = reference.to(device=self._scale.device, dtype=torch.bfloat16)
            self._both = reference, network.to(self._scale.device)
        return self._both

    def observations(self, samples: int) -> Observations:
        """Return inputs on the device."""
        return make_observations(self.both()[1].config, samples).to(self._scale.device)


def measure_calls(scale: Scale, networks: Networks) -> dict[str, Any]:
    """Return milliseconds per sample of calls of every size."""
    reference, network = networks.both()
    found: dict[str, Any] = {}
    for samples in scale.batches:
        measured = measure_sampling(
            reference, network, networks.observations(samples), scale.rounds
        )
        for side in ("ours", "theirs", "theirs_masked"):
            found[f"{side}_{samples}_ms"] = 1e3 / measured[f"{side}_policy_steps_per_s"]
        found[f"difference_{samples}"] = measured["max_difference"]
        if scale.device.type == "cuda":
            found |= _measure_graphs(network, networks.observations(samples), scale.rounds)
    return found


def _measure_graphs(network: Pi0Network, observations: Observations, rounds: int) -> dict[str, Any]:
    """Return milliseconds per sample of a call by graphs, and how far its chunks are from those without."""
    plain = sample_ours(network, observations)
    samples, device = len(plain), plain.device
    network.set_denoising("graphs")
    try:
        distance = _distance(sample_ours(network, observations), plain)  # records them
        call = partial(sample_ours, network, observations)
        seconds = statistics.median(timed(call, device) for _ in range(rounds))
    finally:
        network.set_denoising("plain")
    return {
        f"graphs_{samples}_ms": 1e3 * seconds / samples,
        f"graphs_difference_{samples}": distance,
    }


def measure_company(scale: Scale, networks: Networks) -> dict[str, float]:
    """Return the largest change of an action chunk with its place and with the size of the call."""
    network, largest = networks.both()[1], scale.batches[-1]
    observations = networks.observations(largest)
    together = sample_ours(network, observations)
    order = torch.arange(largest - 1, -1, -1, device=scale.device)
    turned = sample_ours(network, _chosen(observations, order))
    alone = sample_ours(network, _chosen(observations, order[-1:]))
    return {
        "moved": _distance(turned, together[order]),
        "alone": _distance(alone, together[:1]),
        "largest_action": float(together.abs().max()),
    }


def measure_learning(scale: Scale, networks: Networks) -> dict[str, float]:
    """Return seconds and peak bytes of a scoring with its step, and the bytes that are predicted for it."""
    network, num_steps = networks.both()[1], 4
    network.requires_grad_(requires_grad=False)
    trained = network.expert_parameters()
    for parameter in trained:
        parameter.requires_grad = True
    engine = SingleEngine(trained, OptimizerConfig(), 1e-9, 0, 1.0)
    observations = networks.observations(scale.scored)
    sample_ours(network, observations)  # what acts keeps a cast copy of the expert
    step = partial(_learn, network, engine, observations, num_steps)
    step()  # the optimizer's moments are there from here on
    if scale.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = min(timed(step, scale.device) for _ in range(scale.rounds))
    predicted = predict_network(
        network.config, dtype=network.compute_dtype, trained=TrainedPart(), samples=scale.scored,
        num_steps=num_steps, prefix_tokens=observations.token_ids.shape[1],
    )  # fmt: skip
    prefix = scale.scored * predicted.prefix_per_sample
    lasting = predicted.weights + predicted.optimizer + predicted.cast_expert
    # AdamW's square roots lie where the activations were
    needed = lasting + predicted.gradients + max(predicted.activations, predicted.gradients)
    found = {"samples_per_s": scale.scored / seconds, "predicted_bytes": float(needed + prefix)}
    if scale.device.type == "cuda":  # transformers' copy of the weights lies there as well
        theirs = sum(parameter.nbytes for parameter in networks.both()[0].parameters())
        found["peak_bytes"] = float(torch.cuda.max_memory_allocated() - theirs)
    return found


def measure_rendering(scale: Scale, networks: Networks) -> dict[str, float]:
    """Return milliseconds per observation of the GPU, if there is one, and of the software renderer."""
    del networks
    ways = {"software_ms": {"LIBGL_ALWAYS_SOFTWARE": "1"}}
    if scale.device.type == "cuda":
        ways["gpu_ms"] = {"MUJOCO_EGL_DEVICE_ID": "0"}
    sizes = [str(scale.image_size), str(scale.draws)]
    return {
        name: float(_output([sys.executable, "-c", RENDER, *sizes], extra).split()[-1])
        for name, extra in ways.items()
    }


def measure_step(scale: Scale, networks: Networks) -> dict[str, float]:
    """Return the seconds of a program that trains for one step."""
    del networks
    command = [sys.executable, "-m", "pi0.ript.scripts.cli", "train", "quickstart"]
    flags = ["--training.num_train_steps", "1", "--evaluation.rollouts_per_task", "0"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        _output([*command, *flags, *scale.step_flags, "--output_dir", folder], {})
        seconds = time.perf_counter() - started
        (metrics,) = Path(folder).glob("*/metrics.jsonl")
        measured = json.loads(metrics.read_text().splitlines()[-1])
    times = {name: measured[name] for name in ("time/collect_s", "time/update_s", "time/policy_s")}
    return {"program_s": seconds, **times}


Part = Callable[[Scale, Networks], dict[str, Any]]
PARTS: dict[str, Part] = {
    "sampling": measure_calls,
    "company": measure_company,
    "learning": measure_learning,
    "rendering": measure_rendering,
    "step": measure_step,
}


def _learn(
    network: Pi0Network, engine: SingleEngine, observations: Observations, num_steps: int
) -> None:
    with torch.no_grad():
        cache = network.prefix(observations.pixels, observations.token_ids, observations.is_valid)
    x = observations.noise[:, None].expand(-1, num_steps, -1, -1)
    times = torch.linspace(1.0, 1.0 / num_steps, num_steps, device=observations.state.device)
    engine.backward(network.velocity(cache, observations.state, x, times).square().mean())
    engine.step(1.0)


def _chosen(observations: Observations, index: Tensor) -> Observations:
    return Observations(
        pixels=observations.pixels[index],
        token_ids=observations.token_ids[index],
        is_valid=observations.is_valid[index],
        state=observations.state[index],
        noise=observations.noise[index],
    )


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _output(command: Sequence[str], extra: dict[str, str]) -> str:
    """Return what a program of this project prints; its last words if it fails."""
    done = subprocess.run(  # our own modules only
        command, env=os.environ | extra, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def main(argv: Sequence[str]) -> int:
    """Measure the parts one after the other; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rehearse", action="store_true", help="all of it small, without a GPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=output_file, metavar="FILE", help="receives every part")
    arguments = parser.parse_args(argv)
    if not arguments.rehearse and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --rehearse runs everything small")
    scale = REHEARSAL if arguments.rehearse else FULL
    networks, found = Networks(scale), dict[str, Any]()
    for name in arguments.parts:
        started = time.perf_counter()
        try:
            found[name] = PARTS[name](scale, networks)
        except (RuntimeError, ValueError, OSError) as error:
            found[name] = {"error": str(error)}
        found[name]["part_s"] = time.perf_counter() - started
        print(name, found[name], flush=True)
        write_json(arguments.json, {"parts": found}, is_quick=arguments.rehearse)
    return int(any("error" in part for part in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
