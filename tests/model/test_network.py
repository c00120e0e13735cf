"""The two calls equal transformers' own PI0, and packing changes nothing."""

import shutil

import pytest
import torch
from transformers import PI0ForConditionalGeneration

from pi0.model.architecture import unused_tensor_names
from pi0.model.network import Pi0Network
from tests.policy_parts import IMAGE_TOKEN, SIZE, small_card, small_config

SAMPLES, CAMERAS, PATCHES, STEPS = 8, 2, 4, 5
PROMPT_LENGTHS = torch.tensor([5, 9, 7, 3, 9, 4, 6, 8])
CARD = small_card()


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    model = PI0ForConditionalGeneration(small_config(CARD)).eval()
    # transformers starts norms at exactly 1 and biases at 0, which would hide mistakes
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def network_of(reference):
    ours = Pi0Network(small_config(CARD))
    unused = unused_tensor_names(ours.config)
    used = {name: tensor for name, tensor in reference.state_dict().items() if name not in unused}
    ours.core.load_state_dict(used, strict=True)
    return ours


@pytest.fixture(scope="module")
def network(reference):
    return network_of(reference)


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    length = CAMERAS * PATCHES + 9
    is_valid = torch.arange(length) < (CAMERAS * PATCHES + PROMPT_LENGTHS)[:, None]
    token_ids = torch.randint(5, 290, (SAMPLES, length), generator=generator) * is_valid
    token_ids[:, : CAMERAS * PATCHES] = IMAGE_TOKEN
    return {
        "pixels": torch.rand(SAMPLES, CAMERAS, 3, SIZE, SIZE, generator=generator) * 2 - 1,
        "token_ids": token_ids,
        "is_valid": is_valid,
        "state": torch.randn(SAMPLES, CARD.state_dim, generator=generator),
        "noise": torch.randn(SAMPLES, CARD.horizon, CARD.action_dim, generator=generator),
    }


def sample(network, inputs, samples=slice(None)):
    some = {name: tensor[samples] for name, tensor in inputs.items()}
    cache = network.prefix(some["pixels"], some["token_ids"], some["is_valid"])
    x = some["noise"]
    for step in range(STEPS):
        t = torch.tensor([1 - step / STEPS])
        x = x - network.velocity(cache, some["state"], x[:, None], t)[:, 0] / STEPS
    return x


@pytest.fixture(scope="module")
def expected(reference, inputs):
    return reference.sample_actions(
        state=inputs["state"],
        input_ids=inputs["token_ids"],
        pixel_values=inputs["pixels"],
        noise=inputs["noise"],
        attention_mask=inputs["is_valid"].long(),
        pixel_attention_mask=torch.ones(SAMPLES, CAMERAS, dtype=torch.bool),
        num_steps=STEPS,
    )


@torch.no_grad()
def test_sampling_equals_transformers_for_prompts_of_any_length(network, inputs, expected):
    torch.testing.assert_close(sample(network, inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sample_alone_equals_the_sample_in_a_batch(network, inputs, expected):
    single = torch.cat([sample(network, inputs, slice(n, n + 1)) for n in range(SAMPLES)])
    torch.testing.assert_close(single, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_absent_camera_equals_transformers_masked_one(network, reference, inputs):
    one = inputs | {
        "pixels": inputs["pixels"][:, :1],
        "token_ids": inputs["token_ids"][:, PATCHES:],
        "is_valid": inputs["is_valid"][:, PATCHES:],
    }
    masked = reference.sample_actions(
        state=inputs["state"],
        input_ids=one["token_ids"],
        pixel_values=inputs["pixels"],
        noise=inputs["noise"],
        attention_mask=one["is_valid"].long(),
        pixel_attention_mask=torch.tensor([[True, False]] * SAMPLES),
        num_steps=STEPS,
    )
    torch.testing.assert_close(sample(network, one), masked, atol=1e-5, rtol=1e-5)


def packed_inputs():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(SAMPLES, 4, CARD.horizon, CARD.action_dim, generator=generator)
    return x, torch.tensor([1.0, 0.75, 0.5, 0.25])


@torch.no_grad()
def test_packed_steps_equal_a_loop_over_steps(network, inputs):
    x, times = packed_inputs()
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    packed = network.velocity(cache, inputs["state"], x, times)
    for step in range(4):
        one = slice(step, step + 1)
        single = network.velocity(cache, inputs["state"], x[:, one], times[one])
        torch.testing.assert_close(packed[:, one], single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_packed_steps_do_not_see_each_other(network, inputs):
    x, times = packed_inputs()
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    before = network.velocity(cache, inputs["state"], x, times)
    x[:, 2] += 100.0
    after = network.velocity(cache, inputs["state"], x, times)
    assert torch.equal(before[:, [0, 1, 3]], after[:, [0, 1, 3]])
    assert not torch.allclose(before[:, 2], after[:, 2])


@torch.no_grad()
def test_times_may_differ_between_samples(network, inputs):
    x, times = packed_inputs()
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    own = times.expand(SAMPLES, 4).clone()
    own[3] = torch.tensor([0.9, 0.1, 0.3, 0.7])
    together = network.velocity(cache, inputs["state"], x, own)
    sample = slice(3, 4)
    single = network.velocity(cache.select(sample), inputs["state"][sample], x[sample], own[3])
    torch.testing.assert_close(together[sample], single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_is_never_seen(network, inputs):
    other = inputs | {"token_ids": inputs["token_ids"].masked_fill(~inputs["is_valid"], 77)}
    assert torch.equal(sample(network, inputs), sample(network, other))


def test_every_parameter_receives_a_gradient(network, inputs):
    network.zero_grad()
    x, times = packed_inputs()
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    network.velocity(cache, inputs["state"], x, times).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # only words that do not occur stay without gradient, not whole tensors
    assert silent == []


def test_expert_and_backbone_split_all_parameters(network):
    expert = {id(parameter) for parameter in network.expert_parameters()}
    everything = {id(parameter) for parameter in network.all_trainable_parameters()}
    backbone = {id(parameter) for parameter in network.core.model.vlm.parameters()}
    assert expert.isdisjoint(backbone)
    assert expert | backbone == everything


def test_dead_weights_are_never_held(network, reference):
    held = set(network.core.state_dict())
    assert set(reference.state_dict()) - held == unused_tensor_names(network.config)


def sample_prepared(network, inputs):
    """Sample as ``Pi0Policy.act`` does: everything that can be is prepared once per policy step."""
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    layout = network.layout(cache, 1, is_static=True)
    grid = network.time_grid(tuple(1 - step / STEPS for step in range(STEPS)))
    x = inputs["noise"]
    for step in range(STEPS):
        x = x - network.denoise(cache, inputs["state"], x, grid[step], layout) / STEPS
    return x


@torch.no_grad()
def test_preparing_once_per_policy_step_changes_nothing(network, inputs, expected):
    torch.testing.assert_close(sample_prepared(network, inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_policy_step_leaves_the_prefix_cache_as_it_was(network, inputs):
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    layout = network.layout(cache, 1, is_static=True)
    (noise_only,) = network.time_grid((1.0,))
    first = network.denoise(cache, inputs["state"], inputs["noise"], noise_only, layout)
    again = network.denoise(cache, inputs["state"], inputs["noise"], noise_only, layout)
    assert torch.equal(first, again)
    for old, tensor in zip(before, (*cache.keys, *cache.values), strict=True):
        assert torch.equal(old, tensor)


@torch.no_grad()
def test_a_masked_camera_in_the_middle_equals_transformers(network, reference, inputs, expected):
    # a third image whose tokens stand between the real ones and the prompt, and are not valid
    at = CAMERAS * PATCHES
    ids, valid = inputs["token_ids"], inputs["is_valid"]
    extra = ids[:, :PATCHES]
    masked = reference.sample_actions(
        state=inputs["state"],
        input_ids=torch.cat([ids[:, :at], extra, ids[:, at:]], 1),
        pixel_values=torch.cat([inputs["pixels"], -torch.ones(SAMPLES, 1, 3, SIZE, SIZE)], 1),
        noise=inputs["noise"],
        attention_mask=torch.cat(
            [valid[:, :at], torch.zeros_like(extra).bool(), valid[:, at:]], 1
        ).long(),
        pixel_attention_mask=torch.tensor([[True, True, False]] * SAMPLES),
        num_steps=STEPS,
    )
    torch.testing.assert_close(expected, masked, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sample_prepared(network, inputs), masked, atol=1e-5, rtol=1e-5)


def gradients(network, inputs):
    network.zero_grad()
    x, times = packed_inputs()
    cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    network.velocity(cache, inputs["state"], x, times).square().mean().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients(network, inputs):
    expected = {name: grad.clone() for name, grad in gradients(network, inputs).items()}
    network.checkpoints_layers = True
    try:
        found = gradients(network, inputs)
    finally:
        network.checkpoints_layers = False
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], atol=1e-6, rtol=1e-6)


def kept_bytes(network, inputs):
    """Return the bytes that a scoring pass keeps for its backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x, times = packed_inputs()
    with torch.no_grad():
        cache = network.prefix(inputs["pixels"], inputs["token_ids"], inputs["is_valid"])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.velocity(cache, inputs["state"], x, times)
    return sum(kept.values())


def test_gradient_checkpointing_keeps_less(network, inputs):
    everything = kept_bytes(network, inputs)
    network.checkpoints_layers = True
    try:
        assert kept_bytes(network, inputs) < 0.7 * everything
    finally:
        network.checkpoints_layers = False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_compiled_denoising_equals_the_plain_one(reference, inputs, expected):
    ours = network_of(reference)
    ours.set_denoising("compiled")
    torch.testing.assert_close(sample_prepared(ours, inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision_keeps_what_openpi_keeps(reference):
    ours = network_of(reference)
    ours.cast_backbone(torch.bfloat16)
    for name, parameter in ours.core.model.vlm.named_parameters():
        is_kept = "norm" in name or "patch_embedding" in name or "position_embedding" in name
        assert parameter.dtype == (torch.float32 if is_kept else torch.bfloat16), name
    assert {parameter.dtype for parameter in ours.expert_parameters()} == {torch.float32}


@torch.no_grad()
def test_half_precision_backbone_keeps_the_time_embedding_exact(reference, inputs, expected):
    ours = network_of(reference)
    ours.cast_backbone(torch.bfloat16)
    freq = ours.core.embed_action_time.sinusoid_embeds.sinusoid_freq
    assert torch.equal(freq, reference.embed_action_time.sinusoid_embeds.sinusoid_freq)
    result = sample(ours, inputs)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, atol=0.1, rtol=0.1)


def test_several_key_value_heads_are_refused():
    config = small_config(CARD)
    for part in (config.vlm_config.text_config, config.dit_config):
        part.num_key_value_heads = 2
    with pytest.raises(ValueError, match="num_key_value_heads must be 1, got 2"):
        Pi0Network(config)
