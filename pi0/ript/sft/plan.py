"""What a fine-tuning on demonstrations will need in memory, known before anything is loaded."""

from transformers import PI0Config

from pi0.card import PolicyCard
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.memory_plan import PROCESS_BYTES, Item, Place, network_memory
from pi0.ript.sft.settings import SftSettings


def frames_bytes(card: PolicyCard, settings: SftSettings) -> int:
    """Return what the images of two steps take: of the one that is learned from, and of the next, which is read meanwhile.

    Each lies there as it was read, as the network takes it, and on its way from one to the other as floats.
    """
    raw = card.render_size**2
    # both random changes and LeRobot's resize give values between whole numbers
    encoded = card.image_size**2 * (4 + 4)
    return 2 * settings.frames_per_step * len(card.cameras) * 3 * (raw + encoded)


def plan_fine_tuning(
    config: TrainConfig,
    settings: SftSettings,
    card: PolicyCard,
    network: PI0Config,
    place: Place,
) -> list[Item]:
    """Return what one process needs at its worst moment; sizes alone, nothing is allocated.

    Args:
        config: What is trained.
        settings: How many frames at once, and noise levels of each.
        card: The policy's card, with the precision that it computes in there.
        network: Sizes of the network.
        place: Where learning happens.
    """
    together = settings.micro_batch or settings.frames_per_step
    memory = network_memory(config, card, network, together, settings.draws_per_frame)
    # a prefix that is not trained is read before anything is kept for a backward pass
    reading = together * memory.reading_per_sample if config.policy.has_frozen_prefix else 0
    on_device = {
        "weights": memory.weights,
        "optimizer": memory.optimizer,
        "gradients": memory.gradients,
        # a gradient is as large as what is trained
        "running mean": memory.gradients if settings.ema_decay else 0,
        "prefixes": together * memory.prefix_per_sample,
        "activations": memory.activations,
        "reading prefixes": max(0, reading - memory.activations),
        # on a GPU AdamW takes a square root of all second moments at once, when activations are gone
        "optimizer step": max(0, memory.gradients - memory.activations) if place.has_gpu else 0,
    }
    items = [
        Item(name=name, num_bytes=num_bytes, memory="device")
        for name, num_bytes in on_device.items()
        if num_bytes
    ]
    # the policy to be saved, the weights that its mean is of, and the moments
    kept_weights = memory.gradients if settings.ema_decay or config.policy.lora.rank else 0
    copy = memory.gradients + kept_weights + memory.optimizer
    return [
        *items,
        Item(name="checkpoint copy", num_bytes=copy, memory="host"),
        Item(name="images", num_bytes=frames_bytes(card, settings), memory="host"),
        Item(name="Python and torch", num_bytes=PROCESS_BYTES, memory="host"),
    ]


def fine_tuning_advice(items: list[Item], settings: SftSettings) -> str:
    """Return what to change first, if ``items`` (of one kind of memory) do not fit: a remedy for the largest."""
    largest = max(items, key=lambda item: item.num_bytes).name
    together = settings.micro_batch or settings.frames_per_step
    half = f"--micro_batch {max(1, together // 2)}"
    train_less = "train less: --train expert or --train lora"
    remedies = {
        "weights": "use a checkpoint in bfloat16: --override dtype=bfloat16",
        **dict.fromkeys(
            ("optimizer", "gradients", "running mean", "optimizer step", "checkpoint copy"),
            train_less,
        ),
        "prefixes": half,
        "reading prefixes": half,
        "activations": f"{half} or --gradient_checkpointing",
        "images": "lower --frames_per_step",
    }
    return remedies.get(largest, "use a machine with more memory")
