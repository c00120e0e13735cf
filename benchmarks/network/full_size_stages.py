"""The stages of ``benchmarks/full_size.py``, each in a process of its own: ``STAGE FOLDER SIZE STEPS``.

The last line of what a stage prints is JSON.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PI0ForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from benchmarks.network.full_size_checkpoint import write_checkpoint
from benchmarks.network.full_size_sft import fine_tune
from benchmarks.network.models import Size, make_observations, model_config
from benchmarks.parts.measure import AnonymousMemory
from benchmarks.policy import sample_ours, sample_theirs
from pi0.checkpoint import load_policy
from pi0.formats.export import export_folder
from pi0.formats.folder import Choices, read_folder
from pi0.model.lora import trained_tensors
from pi0.policy import Pi0Policy
from pi0.records import Observation, Sampling
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.build_policy import find_base
from pi0.ript.config.policy import PolicyConfig
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.diagnose.disk_plan import predict_checkpoints
from pi0.ript.diagnose.memory_plan import Place, make_plan
from pi0.ript.engine.engine import Engine
from pi0.ript.env.resources import Sizing
from pi0.ript.learner.batch import scored_steps
from pi0.ript.learner.update import update
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER, load_training_state
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
from pi0.ript.train.checkpoints.store import find_last, save_checkpoint
from pi0.ript.types import Batch

NUM_ROWS = 2
TASK = "put the bowl on the plate"
LEARNING = (
    "weights", "expert, cast", "gradients", "optimizer", "activations", "prefix cache", "batch"
)  # fmt: skip


def config_of(folder: Path, num_steps: int) -> TrainConfig:
    """Return a run of ``num_steps`` denoise steps whose collections hold ``NUM_ROWS`` policy steps: two episodes of one action chunk each."""
    algo = AlgoConfig(
        demo_batch_size=1, rloo_batch_size=NUM_ROWS, num_epochs=1, num_minibatches=1,
        micro_batch_size=1, lr=1e-4, warmup_steps=0,
    )  # fmt: skip
    policy = PolicyConfig(denoise_steps=num_steps, batch_size=NUM_ROWS)
    return TrainConfig(policy_path=str(folder / "source"), algo=algo, policy=policy)


def make_batch(policy: Pi0Policy, sampling: Sampling, seed: int) -> Batch:
    """Return two rows that the policy answers, and advantages that nothing has earned."""
    rng, card = np.random.default_rng(seed), policy.card
    size = (len(card.cameras), card.render_size, card.render_size, 3)
    observations = [
        Observation(images=rng.integers(0, 256, size, np.uint8), proprio=np.eye(9)[6])
        for _ in range(NUM_ROWS)
    ]
    chunks = policy.act(observations, [TASK] * NUM_ROWS, list(range(NUM_ROWS)), sampling)
    return Batch(
        observations=tuple(observations),
        tasks=(TASK,) * NUM_ROWS,
        chains=np.stack([chunk.chain for chunk in chunks]),
        advantages=np.array([1.0, -1.0], np.float32),
        weights=np.full(NUM_ROWS, 1 / NUM_ROWS, np.float32),
        is_success=np.array([True, False]),
        is_scored=np.stack([scored_steps(chunk) for chunk in chunks]),
        num_executed=np.full(NUM_ROWS, card.execute_steps),
        groups=np.zeros(NUM_ROWS, np.int64),
        seeds=np.arange(NUM_ROWS),
        elapsed=np.zeros(NUM_ROWS, np.float32),
    )


def learn_once(
    config: TrainConfig, policy: Pi0Policy, engine: Engine, step: int
) -> dict[str, float]:
    """Answer and learn; return the seconds of both."""
    started = time.perf_counter()
    sampling = config.algo.sampling(step, config.policy.denoise_steps)
    batch = make_batch(policy, sampling, seed=step)
    acted = time.perf_counter()
    objective = build_objective(config.algo)
    update(policy, engine, batch, objective, config.algo, sampling, step, has_frozen_prefix=True)
    return {f"act_{step}_s": acted - started, f"update_{step}_s": time.perf_counter() - acted}


def state_of(engine: Engine, step: int) -> TrainingState:
    """Return what a checkpoint holds besides the policy."""
    return TrainingState(
        step=step, engine=engine.state(), sampler_position=0, counters={}, config_hash=""
    )


def digest(policy: Pi0Policy, engine: Engine) -> str:
    """Return a digest of everything that was trained, moments included."""
    found = hashlib.sha256()
    for tensors in (trained_tensors(policy.network.core), engine.state().tensors):
        for name, tensor in tensors.items():
            found.update(name.encode())
            found.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below a folder, those of links aside."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write(folder: Path, size: Size, num_steps: int) -> dict[str, Any]:
    """Write the checkpoint."""
    del num_steps
    watch = AnonymousMemory()
    write_checkpoint(folder / "source", size)
    return {"bytes": bytes_below(folder / "source"), "peak_gb": watch.peak / 1e9}


def learn(folder: Path, size: Size, num_steps: int) -> dict[str, Any]:
    """Load, answer, learn, save; then learn again and begin to save, until killed."""
    del size
    watch, config = AnonymousMemory(), config_of(folder, num_steps)
    contents = read_folder(folder / "source", choices_of(config))
    begin, started = watch.now(), time.perf_counter()
    finding = find_base(config, None)  # takes the digest of every byte meanwhile
    policy = load_policy(folder / "source", batch_size=NUM_ROWS)
    engine = build_engine(config, policy)
    found: dict[str, Any] = {"load_s": time.perf_counter() - started}
    loaded = watch.now()
    watch.peak = loaded
    started = time.perf_counter()
    base = finding and finding.result()
    found["digest_base_s"] = time.perf_counter() - started
    found |= learn_once(config, policy, engine, 1)
    updated = watch.peak
    started = time.perf_counter()
    snapshot = PolicySnapshot.of(policy, base, is_whole=False)
    state = state_of(engine, 1)
    found["copy_s"] = time.perf_counter() - started
    checkpoint = save_checkpoint(folder / "run", snapshot, state, keep=1)
    found["save_s"] = time.perf_counter() - started - found["copy_s"]
    moments = sum(tensor.nbytes for tensor in state.engine.tensors.values())
    del snapshot, state
    found |= learn_once(config, policy, engine, 2)
    no_simulators = Sizing(num_slots=0, num_workers=0, scenes_per_worker=0, reason="")
    items = make_plan(
        config, contents.card, contents.config, no_simulators, contents.card.execute_steps, Place()
    )
    planned = {item.name: item.num_bytes for item in items}
    checkpoints = predict_checkpoints(config, contents, contents.card.execute_steps)
    found["forecast"] = {
        "weights": planned["weights"],
        "optimizer": planned["optimizer"],
        "peak of acting and learning": sum(planned[name] for name in LEARNING),
        "checkpoint": checkpoints.each,
    }
    found["measured"] = {
        "weights": loaded - begin,
        "optimizer": moments,
        "peak of acting and learning": updated - begin,
        "checkpoint": bytes_below(checkpoint),
    }
    found |= {"digest": digest(policy, engine), "peak_gb": watch.peak / 1e9}
    print(json.dumps(found), flush=True)
    while True:  # killed here
        save_checkpoint(
            folder / "run", PolicySnapshot.of(policy, base, is_whole=False), state_of(engine, 2), 2
        )


def resume(folder: Path, size: Size, num_steps: int) -> dict[str, Any]:
    """Load the checkpoint that the killed process left, learn as it did, and save a whole policy."""
    del size
    watch, config, started = AnonymousMemory(), config_of(folder, num_steps), time.perf_counter()
    last = find_last(folder / "run")
    finding = find_base(config, last)
    policy = load_policy(last / POLICY_FOLDER, batch_size=NUM_ROWS)
    engine = build_engine(config, policy)
    engine.load_state(load_training_state(last).engine)
    base = finding and finding.result()
    found: dict[str, Any] = {"load_s": time.perf_counter() - started, "step": int(last.name)}
    found |= learn_once(config, policy, engine, 2)
    found["digest"] = digest(policy, engine)
    started = time.perf_counter()
    whole = save_checkpoint(
        folder / "run", PolicySnapshot.of(policy, base), state_of(engine, 2), keep=1
    )
    found["save_s"] = time.perf_counter() - started
    contents = read_folder(folder / "source", choices_of(config))
    forecast = predict_checkpoints(config, contents, contents.card.execute_steps)
    found["forecast"] = {"whole checkpoint": forecast.last}
    found["measured"] = {"whole checkpoint": bytes_below(whole)}
    return found | {"peak_gb": watch.peak / 1e9}


def export(folder: Path, size: Size, num_steps: int) -> dict[str, Any]:
    """Write LeRobot's folder of the trained policy and read it back, tensor by tensor."""
    del size, num_steps
    watch = AnonymousMemory()
    trained = read_folder(find_last(folder / "run") / POLICY_FOLDER, Choices())
    started = time.perf_counter()
    export_folder(trained, folder / "lerobot", "lerobot")
    exported = time.perf_counter()
    back = read_folder(folder / "lerobot", Choices()).tensors
    different = [
        name
        for name, stored in trained.tensors.items()
        if not torch.equal(back[name].read(), stored.read())
    ]
    return {
        "export_s": exported - started,
        "read_back_s": time.perf_counter() - exported,
        "bytes": bytes_below(folder / "lerobot"),
        "num_tensors": len(back),
        "num_different": len(different),
        "peak_gb": watch.peak / 1e9,
    }


def sft(folder: Path, size: Size, num_steps: int) -> dict[str, Any]:
    """Fine-tune the action expert by one step on a demonstration that a simulator draws."""
    del size, num_steps
    return fine_tune(folder)


def chunks(folder: Path, size: Size, num_steps: int, *, dtype_name: str) -> dict[str, Any]:
    """Compare one row's action chunk with that of transformers, in one precision and ten denoise steps."""
    del num_steps
    watch, dtype = AnonymousMemory(), getattr(torch, dtype_name)
    observations = make_observations(model_config(size), 1)
    policy = load_policy(folder / "source", overrides={"dtype": dtype_name})
    started = time.perf_counter()
    ours = sample_ours(policy.network, observations)
    ours_s = time.perf_counter() - started
    del policy
    disable_progress_bar()
    model = PI0ForConditionalGeneration.from_pretrained(
        folder / "source", config=model_config(size), dtype=dtype
    ).eval()
    two = torch.ones(observations.pixels.shape[:2], dtype=torch.bool)
    started = time.perf_counter()
    with torch.inference_mode():
        theirs = sample_theirs(model, observations, two, dtype).float()
    return {
        "ours_s": ours_s,
        "theirs_s": time.perf_counter() - started,
        "max_difference": float((ours - theirs).abs().max()),
        "mean_difference": float((ours - theirs).abs().mean()),
        "mean_size": float(theirs.abs().mean()),
        "peak_gb": watch.peak / 1e9,
    }


STAGES: Mapping[str, Callable[[Path, Size, int], dict[str, Any]]] = {
    "write": write,
    "learn": learn,
    "resume": resume,
    "export": export,
    "sft": sft,
    "bfloat16": partial(chunks, dtype_name="bfloat16"),
    "float32": partial(chunks, dtype_name="float32"),
}

if __name__ == "__main__":
    chosen, place, model, steps = sys.argv[1:]
    size: Any = model
    print(json.dumps(STAGES[chosen](Path(place), size, int(steps))))
