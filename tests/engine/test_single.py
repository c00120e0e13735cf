import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.single import SingleEngine

EVERY = range(2)  # weight and bias
SETTINGS = OptimizerConfig(weight_decay=0.01, beta1=0.9, beta2=0.95)


def make_engine(
    network: nn.Module, lr: float = 1e-2, warmup: int = 0, clip: float = 1e9
) -> SingleEngine:
    return SingleEngine(network.parameters(), SETTINGS, lr, warmup, clip)


def make_network(seed: int = 0) -> nn.Linear:
    network = nn.Linear(4, 3)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise))
    return network


def train(network: nn.Linear, engine: SingleEngine, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        engine.backward(network(inputs).square().mean())
        engine.step()


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_learning_rate_rises_linearly_over_optimizer_steps():
    network = make_network()
    engine = make_engine(network, lr=1e-2, warmup=4)
    rates = []
    for step in range(6):
        rates.append(engine.next_lr)
        train(network, engine, 1, start=step)

    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


def test_first_step_moves_a_weight_by_the_learning_rate():
    # AdamW's first step is lr * sign(gradient), after decay by the factor 1 - lr * weight_decay.
    parameter = nn.Parameter(torch.tensor([2.0]))
    engine = SingleEngine([parameter], SETTINGS, 0.1, 10, 1e9)

    engine.backward(3.0 * parameter.sum())
    engine.step()

    assert parameter.item() == pytest.approx(2.0 * (1 - 0.01 * 0.01) - 0.01, abs=1e-6)


def test_step_reports_the_norm_before_clipping():
    parameter = nn.Parameter(torch.zeros(2))
    engine = SingleEngine([parameter], SETTINGS, 0.1, 0, 1.0)

    engine.backward((parameter * torch.tensor([3.0, 4.0])).sum())

    assert engine.step() == pytest.approx(5.0)


def test_clipping_scales_the_gradient_that_adam_sees():
    # Gradient (3, 4), norm 5, clipped to norm 1: first moment = (1 - 0.9) * (0.6, 0.8).
    parameter = nn.Parameter(torch.zeros(2))
    engine = SingleEngine([parameter], SETTINGS, 0.1, 0, 1.0)
    engine.backward((parameter * torch.tensor([3.0, 4.0])).sum())
    engine.step()

    torch.testing.assert_close(engine.state().tensors["0.exp_avg"], torch.tensor([0.06, 0.08]))


def test_a_share_of_the_learning_rate_moves_the_weights_by_that_share():
    # Adam's first step is lr in the direction of the gradient's sign, whatever its length.
    parameter = nn.Parameter(torch.zeros(2))
    engine = SingleEngine([parameter], SETTINGS, 0.1, 0, 1.0)
    engine.backward((parameter * torch.tensor([3.0, -4.0])).sum())
    engine.step(lr_share=0.25)

    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.025, 0.025]))


def test_a_shorter_gradient_would_move_them_as_far():
    def moved(length: float) -> torch.Tensor:
        parameter = nn.Parameter(torch.zeros(2))
        engine = SingleEngine([parameter], SETTINGS, 0.1, 0, 1.0)
        for _ in range(3):  # norm 5 or 1.25, clipped to 1
            engine.backward(length * (parameter * torch.tensor([3.0, -4.0])).sum())
            engine.step()
        return parameter.detach()

    torch.testing.assert_close(moved(0.25), moved(1.0))


def test_accumulated_parts_make_the_same_step_as_the_whole():
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    whole, parts = make_network(), make_network()
    engine_whole, engine_parts = make_engine(whole), make_engine(parts)

    engine_whole.backward(whole(inputs).square().sum() / 6)
    for part in inputs.split(2):
        engine_parts.backward(parts(part).square().sum() / 6)

    assert engine_whole.step() == pytest.approx(engine_parts.step(), rel=1e-6)
    for one, other in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_gradient_is_forgotten_after_its_step_and_when_discarded():
    network = make_network()
    engine = make_engine(network)
    engine.backward(network.weight.sum())
    engine.step()
    assert all(parameter.grad is None for parameter in network.parameters())

    engine.backward(network.weight.sum())
    engine.discard()
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_weights_and_moments_untouched(bad: float):
    network = make_network()
    engine = make_engine(network)
    train(network, engine, 2)
    before, moments = weights(network), engine.state()

    engine.backward(network.weight.sum() * bad)
    with pytest.raises(FloatingPointError, match="gradient"):
        engine.step()

    assert all(torch.equal(a, b) for a, b in zip(before, weights(network), strict=True))
    after = engine.state()
    assert after.num_steps == moments.num_steps == 2
    assert all(torch.equal(moments.tensors[key], after.tensors[key]) for key in moments.tensors)
    train(network, engine, 1)
    assert all(torch.isfinite(weight).all() for weight in weights(network))


def test_resumed_from_disk_it_continues_bit_for_bit(tmp_path: Path):
    straight = make_network()
    train(straight, make_engine(straight, warmup=6, clip=0.5), 8)

    first = make_network()
    engine = make_engine(first, warmup=6, clip=0.5)
    train(first, engine, 4)
    save_file(dict(engine.state().tensors), tmp_path / "moments.safetensors")
    (tmp_path / "state.json").write_text(json.dumps({"num_steps": engine.state().num_steps}))

    second = make_network(seed=99)
    second.load_state_dict(first.state_dict())
    resumed = make_engine(second, warmup=6, clip=0.5)
    resumed.load_state(
        EngineState(
            tensors=load_file(tmp_path / "moments.safetensors"),
            num_steps=json.loads((tmp_path / "state.json").read_text())["num_steps"],
        )
    )
    train(second, resumed, 4, start=4)

    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(second), strict=True))


def test_a_state_with_weights_brings_them_back():
    straight = make_network()
    engine = SingleEngine(straight.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=EVERY)
    train(straight, engine, 2)
    state = engine.state()
    train(straight, engine, 2, start=2)

    other = make_network(seed=99)
    resumed = SingleEngine(other.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=EVERY)
    resumed.load_state(state)
    train(other, resumed, 2, start=2)

    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(other), strict=True))


def test_a_state_with_weights_is_refused_where_none_are_kept():
    network = make_network()
    engine = SingleEngine(network.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=EVERY)
    with pytest.raises(ValueError, match=r"another policy\.lora"):
        make_engine(network).load_state(engine.state())


def test_a_state_holds_the_weights_that_are_kept_and_no_other():
    network = make_network()
    last = len(list(network.parameters())) - 1
    engine = SingleEngine(network.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=[last])
    train(network, engine, 1)

    state = engine.state()

    assert [name for name in state.tensors if name.endswith("weight")] == [f"{last}.weight"]
    other = make_network(seed=99)
    expected = [weight.clone() for weight in weights(other)]
    expected[last] = weights(network)[last]
    SingleEngine(other.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=[last]).load_state(state)
    assert all(torch.equal(a, b) for a, b in zip(expected, weights(other), strict=True))


def test_a_state_of_which_less_is_kept_today_still_resumes():
    network = make_network()
    engine = SingleEngine(network.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=EVERY)
    train(network, engine, 1)
    other = make_network(seed=99)
    SingleEngine(other.parameters(), SETTINGS, 1e-2, 0, 1e9, kept_weights=[0]).load_state(
        engine.state()
    )
    assert all(torch.equal(a, b) for a, b in zip(weights(network), weights(other), strict=True))


def test_a_state_is_a_copy():
    network = make_network()
    engine = make_engine(network)
    train(network, engine, 1)
    state = engine.state()
    before = {key: tensor.clone() for key, tensor in state.tensors.items()}
    train(network, engine, 2)

    assert all(torch.equal(before[key], state.tensors[key]) for key in before)


def test_the_state_of_another_network_is_refused():
    network = make_network()
    engine = make_engine(network)
    train(network, engine, 1)

    with pytest.raises(ValueError, match="another network"):
        make_engine(nn.Linear(5, 3)).load_state(engine.state())


def test_half_precision_weights_are_refused():
    # A step of 5e-6 is lost in bfloat16, whose relative resolution is 2^-8.
    with pytest.raises(ValueError, match="float32"):
        make_engine(nn.Linear(4, 3).to(torch.bfloat16))


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        SingleEngine([], SETTINGS, 1e-3, 0, 1.0)
