"""What a run will need in memory, known before anything is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PI0Config

from pi0.card import PolicyCard
from pi0.model.architecture import vlm_sizes
from pi0.model.memory import NetworkMemory, TrainedPart, predict_network
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.env.resources import Sizing, predict_memory
from pi0.ript.env.suites import step_limit
from pi0.ript.learner.prefixes import DEVICE_SHARE, PREFIX_BUDGET, Room

MemoryKind = Literal["device", "host"]
GIB = 2**30

# Memory of a card as its maker states it, in GB counted in powers of two.
GPU_GIB: Mapping[str, int] = {
    "t4": 16,
    "rtx3090": 24,
    "rtx4090": 24,
    "l4": 24,
    "a10": 24,
    "v100": 32,
    "l40s": 48,
    "a6000": 48,
    "a100": 80,
    "h100": 80,
    "h200": 141,
    "b200": 180,
}
# Interpreter, torch and transformers, resident before a policy is loaded.
PROCESS_BYTES = 600 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of a plan: what it is, its bytes, and where they lie."""

    name: str
    num_bytes: int
    memory: MemoryKind


def expected_samples(algo: AlgoConfig, card: PolicyCard, max_steps: int) -> int:
    """Return how many policy steps an update has at its worst: G groups whose episodes run to the limit."""
    per_episode = -(-max_steps // card.execute_steps)
    return algo.demo_batch_size * algo.rloo_batch_size * per_episode


def spare_samples(algo: AlgoConfig, card: PolicyCard, max_steps: int, num_slots: int) -> int:
    """Return how many more a collection holds: spare groups under way.

    However many groups are tried, those that are rejected give their images up, and one more is tried only
    while fewer than G have turned out to have signal.
    """
    num_spare = -(-num_slots // algo.rloo_batch_size) if algo.enable_dynamic_sampling else 0
    return num_spare * expected_samples(algo, card, max_steps) // algo.demo_batch_size


def longest_episode(config: TrainConfig, card: PolicyCard, tasks: Iterable[tuple[str, int]]) -> int:
    """Return the most control steps that an episode of any of the tasks to train on may take."""
    chosen = config.task.max_episode_length
    return max(step_limit(suite, card.protocol, chosen) for suite in {suite for suite, _ in tasks})


def policy_step_bytes(card: PolicyCard, num_steps: int) -> int:
    """Return what one stored policy step takes: its observation, its chain and the actions executed."""
    return _drawn_bytes(card, num_steps) + card.execute_steps * 7 * 4


def replay_bytes(config: TrainConfig, card: PolicyCard, max_steps: int) -> int:
    """Return what the samples of M earlier steps take at their worst, in memory and in a checkpoint.

    Of each: what was drawn, the means of its transitions, which of them are scored (a byte each), advantage, weight,
    success, executed actions, group and seed.
    """
    num_steps = config.policy.denoise_steps
    sample = _drawn_bytes(card, num_steps) + num_steps * (card.execute_steps * 7 * 4 + 1)
    sample += 2 * 4 + 1 + 3 * 8
    return config.algo.replay_steps * expected_samples(config.algo, card, max_steps) * sample


def _drawn_bytes(card: PolicyCard, num_steps: int) -> int:
    size = card.render_size if card.encoding is None else card.encoding.size
    images = len(card.cameras) * size**2 * 3
    return images + 9 * 8 + (num_steps + 1) * card.horizon * card.action_dim * 4


def encoded_bytes(card: PolicyCard, num_steps: int) -> int:
    """Return what one sample takes again as an update begins: its images as the network takes them, its chain.

    Beside them lies, later, a copy of the chain.
    """
    pixels = len(card.cameras) * 3
    # LeRobot's resize gives values between whole numbers
    has_floats = card.resize == "lerobot" and card.render_size != card.image_size
    images = pixels * card.image_size**2 * (4 if has_floats else 1)
    chain = (num_steps + 1) * card.horizon * card.action_dim * 4
    return images + 2 * chain


def make_plan(
    config: TrainConfig,
    card: PolicyCard,
    network: PI0Config,
    simulators: Sizing,
    max_steps: int,
    device_bytes: int | None = None,
) -> list[Item]:
    """Return everything that takes memory at the worst moment of a run.

    Args:
        config: Of the run.
        card: Of the policy.
        network: Sizes of the network.
        simulators: How they will be distributed over workers.
        max_steps: Control steps of the longest episodes.
        device_bytes: Memory of the GPU; None where learning uses the CPU.
    """
    policy, num_steps = config.policy, config.policy.denoise_steps
    new_samples = expected_samples(config.algo, card, max_steps)
    samples = (1 + config.algo.replay_steps) * new_samples
    patches = vlm_sizes(network).vision_config
    tokens = len(card.cameras) * (patches.image_size // patches.patch_size) ** 2
    memory = predict_network(
        network,
        dtype=getattr(torch, card.dtype),
        trained=TrainedPart(
            has_frozen_prefix=policy.has_frozen_prefix,
            lora_rank=policy.lora.rank,
            lora_targets=policy.lora.targets,
            checkpoints_layers=policy.gradient_checkpointing,
        ),
        samples=min(config.algo.micro_batch_size, samples),
        num_steps=num_steps,
        prefix_tokens=tokens + card.max_prompt_tokens,
    )
    older = [_older_weights(config, memory)] if config.training.overlap else []
    cast = Item(name="expert, cast", num_bytes=memory.cast_expert, memory="device")
    replayed = Item(
        name="replayed samples", num_bytes=replay_bytes(config, card, max_steps), memory="host"
    )
    kept_samples = min(config.algo.micro_batch_size, samples)
    if policy.has_frozen_prefix:
        there = memory.weights + memory.optimizer + sum(item.num_bytes for item in [*older, cast])
        room = _prefix_room(device_bytes, there).split(samples, memory.prefix_per_sample)
        kept_samples = max(kept_samples, room[0])
    return [
        Item(name="weights", num_bytes=memory.weights, memory="device"),
        Item(name="gradients", num_bytes=memory.gradients, memory="device"),
        Item(name="optimizer", num_bytes=memory.optimizer, memory="device"),
        *older,
        *([cast] if cast.num_bytes else []),
        Item(name="activations", num_bytes=memory.activations, memory="device"),
        Item(
            name="prefix cache", num_bytes=kept_samples * memory.prefix_per_sample, memory="device"
        ),
        Item(
            name="rollout store",
            num_bytes=(2 if config.training.overlap else 1)  # the next one is collected meanwhile
            * (new_samples + spare_samples(config.algo, card, max_steps, simulators.num_slots))
            * policy_step_bytes(card, num_steps),
            memory="host",
        ),
        *([replayed] if replayed.num_bytes else []),
        Item(name="batch", num_bytes=samples * encoded_bytes(card, num_steps), memory="host"),
        Item(
            name="simulators",
            num_bytes=predict_memory(
                simulators.num_workers,
                simulators.num_slots,
                simulators.scenes_per_worker,
                card.spec,
            ),
            memory="host",
        ),
        # what is trained and its moments, while a checkpoint is written beside the next collection
        Item(
            name="checkpoint copy",
            num_bytes=memory.gradients + memory.optimizer,
            memory="host",
        ),
        Item(name="Python and torch", num_bytes=PROCESS_BYTES, memory="host"),
    ]


def _prefix_room(device_bytes: int | None, occupied: int) -> Room:
    """Return what kept prefixes may take beside what lies on the device when an update begins."""
    if device_bytes is None:
        return Room(device=PREFIX_BUDGET)
    return Room(device=max(0, int(DEVICE_SHARE * (device_bytes - occupied))))


def _older_weights(config: TrainConfig, memory: NetworkMemory) -> Item:
    """Return what acting during an update takes: trained weights twice, and the prefixes of a call."""
    # a gradient is as large as what is trained
    acting = config.policy.batch_size * memory.prefix_per_sample
    return Item(name="older weights", num_bytes=2 * memory.gradients + acting, memory="device")


def advice(items: list[Item], config: TrainConfig) -> str:
    """Return what to change first, if ``items`` (of one kind of memory) do not fit: a remedy for the largest."""
    largest = max(items, key=lambda item: item.num_bytes).name
    half_samples = max(1, config.algo.micro_batch_size // 2)
    remedies = {
        "weights": "use a checkpoint in bfloat16: --policy.overrides.dtype bfloat16",
        "gradients": "train less: --policy.train_expert_only true or --policy.lora.rank 16",
        "optimizer": "train less: --policy.train_expert_only true or --policy.lora.rank 16",
        "checkpoint copy": "train less: --policy.train_expert_only true or --policy.lora.rank 16",
        "older weights": "--training.overlap false",
        "activations": f"--algo.micro_batch_size {half_samples} or --policy.gradient_checkpointing true",
        "prefix cache": f"--algo.demo_batch_size {max(1, config.algo.demo_batch_size // 2)}",
        "replayed samples": f"--algo.replay_steps {config.algo.replay_steps // 2}",
        "rollout store": f"--algo.demo_batch_size {max(1, config.algo.demo_batch_size // 2)}",
        "batch": f"--algo.demo_batch_size {max(1, config.algo.demo_batch_size // 2)}",
        "simulators": "lower --env.num_workers, --env.max_scenes or --task.num_parallel_envs",
    }
    return remedies.get(largest, "use a machine with more memory")
