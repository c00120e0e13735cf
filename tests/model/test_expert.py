"""In half precision acting casts the expert's matrices once per state of the weights; answers keep their bits."""

from copy import deepcopy

import pytest
import torch

from pi0.model.network import Pi0Network
from tests.policy_parts import IMAGE_TOKEN, SIZE, small_card, small_config

CARD = small_card()
SAMPLES, PROMPT, PATCHES = 2, 5, 4


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Pi0Network(small_config(CARD))
    network.cast_backbone(torch.bfloat16)
    return network


@torch.no_grad()
def answers(network, *, is_prepared):
    torch.manual_seed(1)
    token_ids = torch.randint(5, 290, (SAMPLES, PATCHES + PROMPT))
    token_ids[:, :PATCHES] = IMAGE_TOKEN
    is_valid = torch.ones_like(token_ids, dtype=torch.bool)
    cache = network.prefix(torch.rand(SAMPLES, 1, 3, SIZE, SIZE), token_ids, is_valid)
    state = torch.randn(SAMPLES, CARD.state_dim)
    x = torch.randn(SAMPLES, CARD.horizon, CARD.action_dim)
    if not is_prepared:
        return network.velocity(cache, state, x[:, None], torch.tensor([0.5]))[:, 0]
    layout = network.layout(cache, 1, is_static=True)
    return network.denoise(cache, state, x, network.time_grid((0.5,))[0], layout)


def test_answers_are_those_of_casting_for_every_product(network):
    assert torch.equal(answers(network, is_prepared=True), answers(network, is_prepared=False))


@pytest.mark.parametrize("acts_in_inference_mode", [True, False])
def test_changed_weights_are_cast_again_in_place(network, acts_in_inference_mode):
    with torch.inference_mode(acts_in_inference_mode):
        before = answers(network, is_prepared=True)
        copy = network._acting_expert()
        place = copy.layers[0].mlp.up_proj.weight.data_ptr()
    with torch.no_grad():
        for parameter in network.expert_parameters():
            parameter.mul_(1.1)
    after = answers(network, is_prepared=True)
    assert not torch.equal(before, after)
    assert torch.equal(after, answers(network, is_prepared=False))
    assert network._acting_expert() is copy
    assert copy.layers[0].mlp.up_proj.weight.data_ptr() == place


def test_it_is_no_part_of_the_network(network):
    names = set(network.state_dict())
    answers(network, is_prepared=True)
    assert set(network.state_dict()) == names
    assert network._acting_expert() is not deepcopy(network)._acting_expert()


def test_norms_are_the_experts_own_tensors(network):
    norm = network._acting_expert().layers[0].input_layernorm.weight
    assert norm is network.core.model.dit.layers[0].input_layernorm.weight


def test_full_precision_needs_no_copy():
    network = Pi0Network(small_config(CARD))
    assert network._acting_expert() is network.core.model.dit
