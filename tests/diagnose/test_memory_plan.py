"""What a run takes of memory, item by item, and the remedy for the largest one."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.network.models import model_config
from pi0.model.memory import TrainedPart, predict_network
from pi0.records import Observation, Sampling
from pi0.ript.config.schema import AlgoConfig, PolicyConfig, TrainConfig, TrainingConfig
from pi0.ript.diagnose.memory_plan import (
    GIB,
    Item,
    Place,
    advice,
    critic_bytes,
    encoded_bytes,
    expected_samples,
    make_plan,
    policy_step_bytes,
    spare_samples,
)
from pi0.ript.env.resources import Sizing
from pi0.ript.learner.batch import idle_batch
from pi0.ript.learner.scorer import Scorer
from tests.policy_parts import small_card, small_policy


def test_a_policy_step_holds_images_state_chain_and_actions():
    # 2 cameras x 28 x 28 x 3; 9 doubles; 5 x 6 x 9 floats; 4 x 7 floats
    expected = 2 * 28 * 28 * 3 + 72 + 1080 + 112
    assert policy_step_bytes(small_card(), num_steps=4) == expected
    # openpi's images are shrunk before they are sent, LeRobot's are not
    large = small_card(render_size=56)
    assert policy_step_bytes(large, num_steps=4) == expected
    assert policy_step_bytes(replace(large, resize="lerobot"), num_steps=4) == expected + 14112


@pytest.mark.parametrize(
    ("render_size", "protocol", "expected"),
    [
        # One camera. Chains are 5 x 6 x 9 floats = 1,080 bytes, twice; images 28 x 28 x 3 = 2,352.
        (28, "openpi", 2352 + 2160),
        (56, "openpi", 2352 + 2160),
        (28, "lerobot", 2352 + 2160),  # nothing to resize: whole numbers stay whole
        (56, "lerobot", 4 * 2352 + 2160),
    ],
)
def test_a_sample_of_an_update_takes_what_was_planned(render_size, protocol, expected):
    policy = small_policy(cameras=("agentview",), render_size=render_size, resize=protocol)
    card, num_samples = policy.card, 400
    images = np.zeros((1, render_size, render_size, 3), np.uint8)
    batch = replace(
        idle_batch(card, 4),
        observations=num_samples * (Observation(images=images, proprio=np.eye(9)[6]),),
        tasks=num_samples * ("",),
        chains=np.zeros((num_samples, 5, card.horizon, card.action_dim), np.float32),
    )
    index = np.arange(num_samples)
    Scorer(policy, batch, index[:1], Sampling(num_steps=4, noise_scale=0.5), is_frozen=True)

    tracemalloc.start()
    Scorer(policy, batch, index, Sampling(num_steps=4, noise_scale=0.5), is_frozen=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert encoded_bytes(card, num_steps=4) == expected
    # The batch's own chains were there before.
    assert peak / num_samples + 1080 == pytest.approx(expected, rel=0.1)


def test_episodes_are_counted_to_their_limit():
    # 8 groups of 8 rollouts; 101 control steps in action chunks of 4 are 26 policy steps
    assert expected_samples(AlgoConfig(), small_card(), max_steps=101) == 64 * 26


@pytest.mark.parametrize(("is_dynamic", "expected"), [(True, 3 * 8 * 26), (False, 0)])
def test_slots_may_be_full_of_spare_groups(is_dynamic, expected):
    # 17 slots hold up to three groups of 8
    algo = AlgoConfig(enable_dynamic_sampling=is_dynamic)
    assert spare_samples(algo, small_card(), max_steps=101, num_slots=17) == expected


def test_a_critic_is_planned_for_where_there_is_one():
    # 8 x 512 + 513 x 256 + 257 x 128 + 129 weights, biases included, four times in float32; of each sample nine
    # numbers three times in float64 and once in float32.
    weights = 8 * 512 + 513 * 256 + 257 * 128 + 129
    assert critic_bytes(num_samples=10, width=6) == 16 * weights + 10 * 9 * 28


def test_the_remedy_is_for_the_largest_item():
    items = [
        Item(name="weights", num_bytes=5, memory="device"),
        Item(name="activations", num_bytes=9, memory="device"),
    ]
    assert "micro_batch_size 32" in advice(items, TrainConfig())


def test_the_remedy_for_replayed_samples_is_to_keep_fewer():
    items = [Item(name="replayed samples", num_bytes=9, memory="host")]
    assert advice(items, TrainConfig(algo=AlgoConfig(replay_steps=4))) == "--algo.replay_steps 2"


def test_the_remedy_for_older_weights_is_to_do_without():
    items = [Item(name="older weights", num_bytes=9, memory="device")]
    assert advice(items, TrainConfig()) == "--training.overlap false"


FULL = predict_network(
    model_config("full"), dtype=torch.bfloat16, trained=TrainedPart(), samples=1, num_steps=10,
    prefix_tokens=560,
)  # fmt: skip


def full_size_plan(place: Place, **changes: object) -> dict[str, int]:
    """The plan of a pi0 of full size in bfloat16, ten denoise steps, two cameras; one group of 8 rollouts."""
    algo = AlgoConfig(demo_batch_size=1, rloo_batch_size=8, micro_batch_size=1)
    policy = PolicyConfig(denoise_steps=10, batch_size=16)
    config = replace(TrainConfig(algo=algo, policy=policy), **changes)
    card = replace(small_card(), dtype="bfloat16", image_size=224, max_prompt_tokens=48)
    sizing = Sizing(num_slots=8, num_workers=2, scenes_per_worker=1, reason="")
    found = make_plan(config, card, model_config("full"), sizing, 4 * 1000, place)
    return {item.name: item.num_bytes for item in found}


def test_prefixes_that_the_gpu_has_no_room_for_are_pinned_on_the_host_up_to_a_quarter_of_its_memory():
    num_prefixes, prefix = 8 * 1000, FULL.prefix_per_sample

    plan = full_size_plan(Place(device_bytes=24 * GIB, host_bytes=32 * GIB))

    lasting = plan["weights"] + plan["optimizer"] + plan["expert, cast"]
    room = (24 * GIB - lasting) // 2
    assert plan["prefix cache"] == room // prefix * prefix
    assert plan["pinned prefixes"] == 8 * GIB // prefix * prefix
    assert plan["prefix cache"] + plan["pinned prefixes"] < num_prefixes * prefix


def test_runs_that_repeat_keep_as_many_prefixes_on_every_machine():
    training = TrainingConfig(deterministic=True)
    plan = full_size_plan(Place(device_bytes=80 * GIB, host_bytes=32 * GIB), training=training)
    assert "pinned prefixes" not in plan
    prefix = FULL.prefix_per_sample
    assert plan["prefix cache"] == 16 * GIB // prefix * prefix


def test_two_policies_that_act_cast_their_experts_twice():
    alone = full_size_plan(Place())
    ahead = full_size_plan(Place(), training=TrainingConfig(overlap=True))
    assert ahead["expert, cast"] == 2 * alone["expert, cast"] == 2 * FULL.cast_expert


def test_a_gpu_reads_the_whole_call_in_one_pass():
    place = Place(device_bytes=80 * GIB, host_bytes=32 * GIB)
    plan = full_size_plan(place, training=TrainingConfig(overlap=True))
    assert plan["policy call"] == 16 * (2 * FULL.prefix_per_sample + FULL.reading_per_sample)


@pytest.mark.parametrize(("objective", "expected"), [("flow_sde", 0), ("nft", 1)])
def test_weights_that_an_objective_remembers_are_counted(objective, expected):
    algo = AlgoConfig(objective=objective, demo_batch_size=1, micro_batch_size=1)
    plan = full_size_plan(Place(), algo=algo)
    assert plan.get("remembered weights", 0) == expected * plan["gradients"]
