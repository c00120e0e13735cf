"""What a fine-tuning takes of memory, item by item, and the remedy for the largest one."""

from dataclasses import replace

import pytest

from benchmarks.network.models import model_config
from pi0.card import PolicyCard
from pi0.ript.config.policy import LoraConfig, PolicyConfig
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.memory_plan import Item, Place
from pi0.ript.sft.plan import fine_tuning_advice, frames_bytes, plan_fine_tuning
from pi0.ript.sft.settings import FINE_TUNING, SftSettings
from tests.policy_parts import small_card

GB = 1e9
CPU, GPU = Place(), Place(device_bytes=80 * 2**30)
COMPUTED_AGAIN = PolicyConfig(train_expert_only=True, gradient_checkpointing=True)
FOUR_FRAMES = SftSettings(frames_per_step=4, draws_per_frame=1)


def full_size_card() -> PolicyCard:
    return small_card(horizon=50, action_dim=32, image_size=224, render_size=224, dtype="bfloat16")


def planned(
    settings: SftSettings, policy: PolicyConfig | None = None, place: Place = CPU
) -> dict[str, int]:
    """Bytes by item of a pi0 of 3.5 billion parameters."""
    config = TrainConfig(policy=policy or PolicyConfig(train_expert_only=True))
    card = full_size_card()
    items = plan_fine_tuning(config, settings, card, model_config("full"), place)
    return {item.name: item.num_bytes for item in items}


def test_images_of_this_step_and_the_next_lie_there_three_times():
    card = small_card(render_size=56)  # two cameras; the network reads 28 x 28
    # as drawn, as floats on the way, as floats for the network: 56 x 56 + (4 + 4) x 28 x 28 bytes per color
    assert frames_bytes(card, FOUR_FRAMES) == 2 * 4 * 2 * 3 * (3136 + 6272)


def test_the_action_expert_alone_has_gradient_and_moments():
    found = planned(FOUR_FRAMES)

    # 2.9 billion numbers in bfloat16, 0.31 in float32
    assert found["weights"] == pytest.approx(6.9 * GB, rel=0.02)
    assert found["gradients"] == pytest.approx(1.26 * GB, rel=0.02)
    assert found["optimizer"] == 2 * found["gradients"]


def test_all_weights_are_float32_masters_with_gradient_and_moments():
    found = planned(FOUR_FRAMES, PolicyConfig(train_expert_only=False))

    assert found["gradients"] == found["weights"]
    assert found["optimizer"] == 2 * found["weights"]
    assert "reading prefixes" not in found  # they are part of the backward pass


def test_half_a_micro_batch_takes_half_the_prefixes_and_leaves_weights_alone():
    whole, half = planned(FOUR_FRAMES), planned(replace(FOUR_FRAMES, micro_batch=2))

    assert whole["prefixes"] == 2 * half["prefixes"]
    assert whole["activations"] > half["activations"]
    assert {whole[name] == half[name] for name in ("weights", "optimizer", "images")} == {True}


def test_reading_32_prefixes_takes_more_than_learning_where_layers_are_computed_again():
    found = planned(FINE_TUNING, COMPUTED_AGAIN)
    # (2 x 256 + 24) tokens x (3 x 2,048 x 4 + 2 x (2 x 2,048 + 3 x 16,384)) bytes, without a graph
    reading = 32 * 536 * (24_576 + 106_496)
    assert found["reading prefixes"] + found["activations"] == reading


def test_a_gpu_takes_the_root_of_all_second_moments_at_once():
    one_frame = replace(FOUR_FRAMES, micro_batch=1)
    assert "optimizer step" not in planned(one_frame, COMPUTED_AGAIN)
    found = planned(one_frame, COMPUTED_AGAIN, GPU)
    assert found["optimizer step"] == found["gradients"] - found["activations"]


def test_a_running_mean_is_as_large_as_a_gradient():
    plain, averaged = planned(FOUR_FRAMES), planned(replace(FOUR_FRAMES, ema_decay=0.99))
    assert averaged.pop("running mean") == averaged["gradients"]
    # a checkpoint holds the policy that is the mean, and the weights that it is of
    assert averaged.pop("checkpoint copy") - plain.pop("checkpoint copy") == plain["gradients"]
    assert averaged == plain


def test_adapters_have_small_moments():
    lora = PolicyConfig(lora=LoraConfig(rank=16, targets="both"))
    assert planned(FOUR_FRAMES, lora)["optimizer"] < 0.5 * GB


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        ("optimizer", "train less: --train expert or --train lora"),
        ("reading prefixes", "--micro_batch 16"),
        ("activations", "--micro_batch 16 or --gradient_checkpointing"),
        ("images", "lower --frames_per_step"),
        ("Python and torch", "use a machine with more memory"),
    ],
)
def test_the_remedy_is_for_the_largest_item(largest: str, expected: str):
    items = [Item(name=name, num_bytes=1, memory="host") for name in ("weights", "prefixes")]
    items.append(Item(name=largest, num_bytes=2, memory="host"))
    assert fine_tuning_advice(items, FINE_TUNING) == expected
