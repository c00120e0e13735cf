"""Predicted against measured memory of one expert-only scoring and update step, in a process of its own."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.network.models import Observations, Size, make_observations, model_config
from pi0.model.memory import TrainedPart, predict_network
from pi0.model.network import Pi0Network
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine

INTERVAL_S = 0.002


class PeakMemory:
    """Watches the resident memory of this process from a thread; peaks shorter than 2 ms may escape."""

    def __init__(self) -> None:
        self.peak = 0
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_done.is_set():
            self.peak = max(self.peak, resident_bytes())
            time.sleep(INTERVAL_S)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learner:
    network: Pi0Network
    engine: SingleEngine
    observations: Observations
    num_steps: int

    @classmethod
    def of(cls, size: Size, *, samples: int, num_steps: int, checkpoints: bool) -> "_Learner":
        config = model_config(size)
        network = Pi0Network(config)
        network.checkpoints_layers = checkpoints
        network.requires_grad_(requires_grad=False)
        trained = network.expert_parameters()
        for parameter in trained:
            parameter.requires_grad = True
        return cls(
            network=network,
            engine=SingleEngine(trained, OptimizerConfig(), 1e-5, 0, 1.0),
            observations=make_observations(config, samples),
            num_steps=num_steps,
        )


def _step(learner: _Learner) -> None:
    """Read the prefixes, score all steps packed, go back, step."""
    observations, num_steps = learner.observations, learner.num_steps
    with torch.no_grad():
        cache = learner.network.prefix(
            observations.pixels, observations.token_ids, observations.is_valid
        )
    x = torch.randn(len(observations.state), num_steps, *observations.noise.shape[1:])
    times = torch.linspace(1.0, 1.0 / num_steps, num_steps)
    velocity = learner.network.velocity(cache, observations.state, x, times)
    learner.engine.backward(velocity.square().mean())
    learner.engine.step()


def measure_step(size: Size, samples: int, num_steps: int, *, checkpoints: bool) -> dict[str, Any]:
    """Score and update twice in this process; return predicted and measured bytes."""
    _step(_Learner.of("tiny", samples=1, num_steps=1, checkpoints=False))  # loads libraries
    before = resident_bytes()
    started = time.perf_counter()
    with PeakMemory() as watch:
        learner = _Learner.of(size, samples=samples, num_steps=num_steps, checkpoints=checkpoints)
        for _ in range(2):  # the optimizer's moments exist from the first step on
            _step(learner)
    config, observations = learner.network.config, learner.observations
    predicted = predict_network(
        config,
        dtype=torch.float32,
        trained=TrainedPart(checkpoints_layers=checkpoints),
        samples=samples,
        num_steps=num_steps,
        prefix_tokens=observations.is_valid.shape[1],
    )
    parts = predicted.weights + predicted.gradients + predicted.optimizer + predicted.activations
    total = before + parts + samples * predicted.prefix_per_sample
    return {
        "samples": samples,
        "steps": num_steps,
        "checkpoints_layers": checkpoints,
        "predicted_bytes": total,
        "measured_bytes": watch.peak,
        "ratio": total / watch.peak,
        "process_bytes": before,
        "seconds": time.perf_counter() - started,
    }


def measure_apart(size: Size, samples: int, num_steps: int, *, checkpoints: bool) -> dict[str, Any]:
    """Run ``measure_step`` in a fresh interpreter."""
    arguments = [size, str(samples), str(num_steps), str(int(checkpoints))]
    result = subprocess.run(  # a fixed command of our own
        [sys.executable, "-m", "benchmarks.network.policy_memory", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    name, rows_text, steps_text, flag = sys.argv[1:]
    size_chosen: Any = name
    print(
        json.dumps(
            measure_step(size_chosen, int(rows_text), int(steps_text), checkpoints=bool(int(flag)))
        )
    )
