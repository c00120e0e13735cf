"""What a run will need in memory, known before anything is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PI0Config

from pi0.card import PolicyCard
from pi0.model.architecture import dit_sizes, vlm_sizes
from pi0.model.memory import FLOAT, NetworkMemory, TrainedPart, predict_network
from pi0.records import GPU_BATCH_SIZE, choose_batch_size
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.env.resources import Sizing, predict_memory
from pi0.ript.env.suites import step_limit
from pi0.ript.learner.critic import num_weights
from pi0.ript.learner.prefixes import DEVICE_SHARE, HOST_SHARE, PREFIX_BUDGET, Room

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
# Compute capability below 8.0.
WITHOUT_BFLOAT16 = ("t4", "v100")
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

    Of each: what was drawn, the means of its transitions unless the rule compares none, which of them are scored (a byte
    each), advantage, weight, elapsed share, success, executed actions, group and seed.
    """
    num_steps = config.policy.denoise_steps
    means = 0 if config.algo.objective == "bc" else card.execute_steps * 7 * 4
    sample = _drawn_bytes(card, num_steps) + num_steps * (means + 1)
    sample += 3 * 4 + 1 + 3 * 8
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


def critic_bytes(num_samples: int, width: int) -> int:
    """Return what the critic takes: its head with gradient and moments, and what it reads of every sample.

    Features, elapsed share, reward and advantage lie there three times in float64 (of this rank, of all ranks,
    in order) and once in float32.
    """
    return 4 * num_weights(width) * FLOAT + num_samples * (width + 3) * (3 * 8 + FLOAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where learning happens.

    Attributes:
        device_bytes: Memory of the GPU; None where learning uses the CPU.
        host_bytes: Memory that the host has left.
    """

    device_bytes: int | None = None
    host_bytes: int = 0

    @property
    def has_gpu(self) -> bool:
        """Return whether learning uses a GPU."""
        return self.device_bytes is not None

    def prefix_room(self, occupied: int, *, is_deterministic: bool) -> Room:
        """Return what kept prefixes may take beside what lies on the device when an update begins."""
        if self.device_bytes is None or is_deterministic:
            return Room(device=PREFIX_BUDGET)
        free = max(0, self.device_bytes - occupied)
        return Room(device=int(DEVICE_SHARE * free), host=int(HOST_SHARE * self.host_bytes))


def make_plan(
    config: TrainConfig,
    card: PolicyCard,
    network: PI0Config,
    simulators: Sizing,
    max_steps: int,
    place: Place,
) -> list[Item]:
    """Return what a run needs, learner first, at its worst moment; sizes alone, nothing is allocated.

    Args:
        config: Of the run.
        card: The policy's card, with the precision that it computes in there (``card_on``).
        network: Sizes of the network.
        simulators: How many there will be.
        max_steps: Control steps of the longest episodes.
        place: Where learning happens.
    """
    new_samples = expected_samples(config.algo, card, max_steps)
    samples = (1 + config.algo.replay_steps) * new_samples
    micro_batch = min(config.algo.micro_batch_size, samples)
    memory = network_memory(config, card, network, micro_batch, config.policy.denoise_steps)
    num_stored = new_samples + spare_samples(config.algo, card, max_steps, simulators.num_slots)
    replayed = replay_bytes(config, card, max_steps)
    has_critic = config.algo.critic == "value"
    critic = critic_bytes(samples, dit_sizes(network).hidden_size) if has_critic else 0
    return [
        *_learner_items(config, card, memory, samples, place),
        Item(
            name="rollout store",
            num_bytes=(2 if config.training.overlap else 1)  # the next one is collected meanwhile
            * num_stored
            * policy_step_bytes(card, config.policy.denoise_steps),
            memory="host",
        ),
        *([Item(name="replayed samples", num_bytes=replayed, memory="host")] if replayed else []),
        Item(
            name="batch",
            num_bytes=samples * encoded_bytes(card, config.policy.denoise_steps),
            memory="host",
        ),
        *([Item(name="critic", num_bytes=critic, memory="host")] if critic else []),
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
        Item(name="checkpoint copy", num_bytes=memory.gradients + memory.optimizer, memory="host"),
        Item(name="Python and torch", num_bytes=PROCESS_BYTES, memory="host"),
    ]


def network_memory(
    config: TrainConfig, card: PolicyCard, network: PI0Config, samples: int, num_steps: int
) -> NetworkMemory:
    """Return what the network takes that learns from ``samples`` at once, ``num_steps`` noise levels of each."""
    policy = config.policy
    patches = vlm_sizes(network).vision_config
    tokens = len(card.cameras) * (patches.image_size // patches.patch_size) ** 2
    return predict_network(
        network,
        dtype=getattr(torch, card.dtype),
        trained=TrainedPart(
            has_frozen_prefix=policy.has_frozen_prefix,
            lora_rank=policy.lora.rank,
            lora_targets=policy.lora.targets,
            checkpoints_layers=policy.gradient_checkpointing,
        ),
        samples=samples,
        num_steps=num_steps,
        prefix_tokens=tokens + card.max_prompt_tokens,
    )


def _learner_items(
    config: TrainConfig, card: PolicyCard, memory: NetworkMemory, samples: int, place: Place
) -> list[Item]:
    """Return what the network takes while it learns, and acts at the same time where steps overlap."""
    is_ahead = config.training.overlap
    call = _call_bytes(config, card, memory, place)
    lasting = {
        "weights": memory.weights,
        "optimizer": memory.optimizer,
        # the frozen copy and the weights that acted before it; a gradient is as large as what is trained
        "older weights": 2 * memory.gradients if is_ahead else 0,
        "remembered weights": num_remembered(config) * memory.gradients,
        # the policy casts for evaluations, the frozen copy for itself
        "expert, cast": (2 if is_ahead else 1) * memory.cast_expert,
    }
    micro_batch = min(config.algo.micro_batch_size, samples)
    num_kept, num_pinned = micro_batch, 0
    if config.policy.has_frozen_prefix:
        is_deterministic = config.training.deterministic
        room = place.prefix_room(sum(lasting.values()), is_deterministic=is_deterministic)
        num_kept, num_pinned = room.split(samples, memory.prefix_per_sample)
        num_kept = max(micro_batch, num_kept)
    passing = {
        "gradients": memory.gradients,
        "activations": memory.activations,
        "prefix cache": num_kept * memory.prefix_per_sample,
    }
    # on a GPU AdamW takes a square root of all second moments at once, when activations are gone
    step = memory.gradients - memory.activations if place.has_gpu else 0
    beside = call if is_ahead else call - sum(passing.values())
    on_device = {**lasting, **passing, "optimizer step": step, "policy call": beside}
    items = [
        Item(name=name, num_bytes=num_bytes, memory="device")
        for name, num_bytes in on_device.items()
    ]
    pinned = num_pinned * memory.prefix_per_sample
    items.append(Item(name="pinned prefixes", num_bytes=pinned, memory="host"))
    return [item for item in items if item.num_bytes > 0]


def _call_bytes(config: TrainConfig, card: PolicyCard, memory: NetworkMemory, place: Place) -> int:
    """Return what a full policy call takes: prefixes, once more with room for suffixes, and what reading needs."""
    size = choose_batch_size(config.policy.batch_size, "cuda" if place.has_gpu else "cpu")
    # a GPU reads all samples in one pass
    per_pass = size if place.has_gpu else 1
    return 2 * size * memory.prefix_per_sample + per_pass * memory.reading_per_sample


def num_remembered(config: TrainConfig) -> int:
    """Return how many earlier versions of what is trained an objective keeps beside it."""
    return (config.algo.reference_weight > 0) + (config.algo.objective == "nft")


def advice(items: list[Item], config: TrainConfig) -> str:
    """Return what to change first, if ``items`` (of one kind of memory) do not fit: a remedy for the largest."""
    largest = max(items, key=lambda item: item.num_bytes).name
    half_samples = max(1, config.algo.micro_batch_size // 2)
    half_groups = f"--algo.demo_batch_size {max(1, config.algo.demo_batch_size // 2)}"
    call = GPU_BATCH_SIZE if config.policy.batch_size == "auto" else config.policy.batch_size
    train_less = "train less: --policy.train_expert_only true or --policy.lora.rank 16"
    follow_trained = ("gradients", "optimizer", "optimizer step", "remembered weights", "checkpoint copy")  # fmt: skip
    remedies = {
        "weights": "use a checkpoint in bfloat16: --policy.overrides.dtype bfloat16",
        **dict.fromkeys(follow_trained, train_less),
        "older weights": "--training.overlap false",
        "policy call": f"--policy.batch_size {max(1, call // 2)}",
        "activations": f"--algo.micro_batch_size {half_samples} or --policy.gradient_checkpointing true",
        **dict.fromkeys(
            ("prefix cache", "pinned prefixes", "rollout store", "batch", "critic"), half_groups
        ),
        "replayed samples": f"--algo.replay_steps {config.algo.replay_steps // 2}",
        "simulators": "lower --env.num_workers, --env.max_scenes or --task.num_parallel_envs",
    }
    return remedies.get(largest, "use a machine with more memory")
