"""pi0.5's expert against its formulas, and what pi0 promises holds for it too."""

import shutil
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from pi0.model.gemma import AdaptiveNorm
from pi0.model.network import Pi0Network
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine
from tests.policy_parts import IMAGE_TOKEN, SIZE, small_card, small_config

SAMPLES, STEPS, PATCHES = 3, 4, 4
TIMES = tuple(1 - step / STEPS for step in range(STEPS))
CARD = small_card()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = Pi0Network(small_config(CARD, is_pi05=True))
    for parameter in network.parameters():  # gates of zero would hide attention and MLP
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    length = 2 * PATCHES + 9
    is_valid = torch.arange(length) < torch.tensor([[17], [13], [15]])
    token_ids = torch.randint(5, 290, (SAMPLES, length), generator=generator) * is_valid
    token_ids[:, : 2 * PATCHES] = IMAGE_TOKEN
    pixels = torch.rand(SAMPLES, 2, 3, SIZE, SIZE, generator=generator) * 2 - 1
    x = torch.randn(SAMPLES, STEPS, CARD.horizon, CARD.action_dim, generator=generator)
    return {"prefix": (pixels, token_ids, is_valid), "state": torch.zeros(SAMPLES, 12), "x": x}


def velocities(network, inputs, times=TIMES):
    cache = network.prefix(*inputs["prefix"])
    return network.velocity(cache, inputs["state"], inputs["x"], torch.tensor(times))


@torch.no_grad()
def test_the_expert_computes_what_openpi_writes_down(network, inputs):
    """Everything behind the prefix once more, sample by sample and step by step, in plain torch."""
    cache, core = network.prefix(*inputs["prefix"]), network.core
    expert, embed = core.model.dit, core.embed_action_time
    packed = velocities(network, inputs)
    for sample, step in ((0, 0), (1, 2), (2, 3)):
        num_valid = int(inputs["prefix"][2][sample].sum())
        waves = embed.sinusoid_embeds(torch.tensor([TIMES[step]]))
        c = F.silu(embed.time_mlp_out(F.silu(embed.time_mlp_in(waves))))
        hidden = embed.action_in_proj(inputs["x"][sample, step])
        positions = num_valid + torch.arange(CARD.horizon)
        cos, sin = expert.rotary_emb(hidden, positions[None])

        def adaptive(norm, x, c=c):
            scale, shift, gate = norm.dense(c).chunk(3, dim=-1)
            normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
            return normed * (1 + scale) + shift, gate

        def rotated(x, cos=cos[0], sin=sin[0]):
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat([-second, first], dim=-1) * sin

        for number, layer in enumerate(expert.layers):
            attention, mlp = layer.self_attn, layer.mlp
            normed, gate = adaptive(layer.input_layernorm, hidden)
            keys = torch.cat(
                [cache.keys[number][sample, :num_valid], rotated(attention.k_proj(normed))]
            )
            values = torch.cat([cache.values[number][sample, :num_valid], attention.v_proj(normed)])
            heads = attention.q_proj(normed).unflatten(-1, (2, 16)).unbind(1)
            weights = [(rotated(head) @ keys.T / 4.0).softmax(-1) for head in heads]  # sqrt(16)
            update = attention.o_proj(torch.cat([weight @ values for weight in weights], dim=-1))
            hidden = hidden + gate * update
            normed, gate = adaptive(layer.post_attention_layernorm, hidden)
            gated = F.gelu(mlp.gate_proj(normed), approximate="tanh") * mlp.up_proj(normed)
            hidden = hidden + gate * mlp.down_proj(gated)
        velocity = core.action_out_proj(adaptive(expert.norm, hidden)[0])
        torch.testing.assert_close(packed[sample, step], velocity, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_new_expert_returns_its_input_because_its_gates_are_zero(inputs):
    network = Pi0Network(small_config(CARD, is_pi05=True))
    embed = network.core.embed_action_time
    tokens = embed.action_in_proj(inputs["x"])
    normed = F.rms_norm(tokens, tokens.shape[-1:], eps=1e-6)
    torch.testing.assert_close(
        velocities(network, inputs), network.core.action_out_proj(normed), atol=1e-6, rtol=1e-6
    )


@torch.no_grad()
def test_the_state_is_no_token(network, inputs):
    other = inputs | {"state": torch.ones(SAMPLES, 12)}
    assert torch.equal(velocities(network, inputs), velocities(network, other))


@torch.no_grad()
def test_packed_steps_equal_prepared_single_ones(network, inputs):
    packed = velocities(network, inputs)
    cache = network.prefix(*inputs["prefix"])
    layout = network.layout(cache, 1, is_static=True)
    for step, condition in enumerate(network.time_grid(TIMES)):
        single = network.denoise(cache, inputs["state"], inputs["x"][:, step], condition, layout)
        torch.testing.assert_close(packed[:, step], single, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_compiled_denoising_equals_the_plain_one(network, inputs):
    compiled = deepcopy(network)
    compiled.set_denoising("compiled")
    results = []
    for each in (network, compiled):
        cache = each.prefix(*inputs["prefix"])
        layout = each.layout(cache, 1, is_static=True)
        condition = each.time_grid(TIMES)[1]
        results.append(each.denoise(cache, inputs["state"], inputs["x"][:, 1], condition, layout))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_times_may_differ_between_samples(network, inputs):
    own = torch.tensor(TIMES).expand(SAMPLES, STEPS).clone()
    own[1] = torch.tensor([0.9, 0.1, 0.3, 0.7])
    cache = network.prefix(*inputs["prefix"])
    together = network.velocity(cache, inputs["state"], inputs["x"], own)
    alone = velocities(network, inputs, tuple(own[1].tolist()))
    torch.testing.assert_close(together[1], alone[1], atol=1e-5, rtol=1e-5)


def test_every_parameter_receives_a_gradient(network, inputs):
    network.zero_grad()
    velocities(network, inputs).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_new_expert_learns_its_gates_first(inputs):
    network = Pi0Network(small_config(CARD, is_pi05=True))
    velocities(network, inputs).square().sum().backward()
    layer = network.core.model.dit.layers[0]
    assert not layer.mlp.down_proj.weight.grad.any()
    thirds = layer.input_layernorm.dense.bias.grad.chunk(3)
    assert [bool(third.any()) for third in thirds] == [False, False, True]  # scale, shift, gate


def test_gradient_checkpointing_gives_the_same_gradients(network, inputs):
    found = []
    for checkpoints_layers in (False, True):
        network.zero_grad()
        network.checkpoints_layers = checkpoints_layers
        velocities(network, inputs).square().mean().backward()
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})
    network.checkpoints_layers = False
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, atol=1e-6, rtol=1e-6)


class TestTimeGrid:
    @torch.no_grad()
    def test_is_computed_once_for_the_same_weights(self, network):
        assert network.time_grid(TIMES) is network.time_grid(TIMES)
        assert network.time_grid(TIMES) is not network.time_grid((1.0, 0.5))

    def test_is_computed_again_after_an_optimizer_step(self, network, inputs):
        """Not so after one of torch's fused optimizers, which write without counting; no engine has one."""
        ours = deepcopy(network)
        before = ours.time_grid(TIMES)
        engine = SingleEngine(ours.expert_parameters(), OptimizerConfig(), 1e-3, 0, 1.0)
        engine.backward(velocities(ours, inputs).sum())
        engine.step()
        after = ours.time_grid(TIMES)
        assert not torch.equal(before[0].embedding, after[0].embedding)
        assert not torch.equal(before[1].modulations[-1].scale, after[1].modulations[-1].scale)

    @torch.no_grad()
    def test_is_computed_again_when_weights_are_copied_or_loaded(self, network):
        ours = deepcopy(network)
        before = ours.time_grid(TIMES)
        tensors = {name: 2 * tensor for name, tensor in ours.core.state_dict().items()}
        ours.core.load_state_dict(tensors)
        assert not torch.equal(before[0].embedding, ours.time_grid(TIMES)[0].embedding)

    @torch.no_grad()
    def test_of_a_copy_is_its_own(self, network):
        network.time_grid(TIMES)
        ours = deepcopy(network)
        for parameter in ours.core.embed_action_time.parameters():
            parameter.mul_(2.0)
        assert not torch.equal(
            ours.time_grid(TIMES)[0].embedding, network.time_grid(TIMES)[0].embedding
        )


@torch.no_grad()
def test_guidance_adds_its_vector_to_the_time_condition(network, inputs):
    ours = deepcopy(network)
    cache = ours.prefix(*inputs["prefix"])

    def unconditional():
        times = torch.tensor(TIMES)
        return ours.velocity(cache, inputs["state"], inputs["x"], times, is_conditional=False)

    ours.add_unconditional()
    assert torch.equal(unconditional(), velocities(ours, inputs))
    ours.unconditional.data += 0.5
    assert not torch.allclose(unconditional(), velocities(ours, inputs), atol=1e-3)
    prepared = ours.time_grid(TIMES, is_conditional=False)[1]
    layout = ours.layout(cache, 1, is_static=True)
    single = ours.denoise(cache, inputs["state"], inputs["x"][:, 1], prepared, layout)
    torch.testing.assert_close(single, unconditional()[:, 1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision_keeps_the_expert_whole(network, inputs):
    ours = deepcopy(network)
    expected = velocities(ours, inputs)
    ours.cast_backbone(torch.bfloat16)
    assert {parameter.dtype for parameter in ours.expert_parameters()} == {torch.float32}
    found = velocities(ours, inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)


def test_its_norms_are_adaptive_and_the_language_models_are_not(network):
    adaptive = [
        name for name, module in network.named_modules() if isinstance(module, AdaptiveNorm)
    ]
    assert len(adaptive) == 2 * 2 + 1
    assert all(name.startswith("core.model.dit.") for name in adaptive)
