"""The loop: it learns, repeats bit for bit, and neither micro-batches nor ranks change the step."""

from typing import Any

import numpy as np
import pytest
import torch

from pi0.policy import Pi0Policy
from pi0.ript.algo.reference import Snapshot
from pi0.ript.build_learner import build_engine
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.config.policy import LoraConfig, PolicyConfig
from pi0.ript.config.schema import DistributedConfig, TrainConfig
from pi0.ript.engine import torch_settings
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.sft.draws import Draws, held_out_draws, new_generator, shares
from pi0.ript.sft.settings import SftSettings
from pi0.ript.sft.trainer import SftTrainer, trained_parameters
from tests.policy_parts import small_policy
from tests.ranks import run_ranks
from tests.sft.frames import made_frames

SETTINGS = SftSettings(
    num_steps=3,
    frames_per_step=6,
    draws_per_frame=2,
    warmup_steps=2,
    lr=5e-5,  # where a gradient is next to nothing, AdamW takes a whole step in either direction
    task_weights=(),
    held_out_every=2,
)

AVERAGED = SftSettings(**{**vars(SETTINGS), "ema_decay": 0.75})
CHANGING = SftSettings(**{**vars(AVERAGED), "augment": "openpi"})


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch):
    """Threads of tiny networks wait for each other: 20 times the work where tests share the cores."""
    monkeypatch.setattr(torch_settings, "MAX_THREADS", 1)


def make_trainer(
    policy: Pi0Policy,
    settings: SftSettings = SETTINGS,
    ranks: Any = SINGLE_PROCESS,
    *,
    expert_only: bool = False,
    lora_rank: int = 0,
    strategy: Any = "ddp",
) -> SftTrainer:
    """A trainer of episode 0; episode 1 is held out."""
    frames = made_frames(lengths=(12, 5))
    config = TrainConfig(
        policy=PolicyConfig(
            train_expert_only=expert_only, lora=LoraConfig(rank=lora_rank, targets="both")
        ),
        algo=AlgoConfig(lr=1.0, warmup_steps=0),
        distributed=DistributedConfig(strategy=strategy),
    )
    trained, shape = np.arange(12), (policy.card.horizon, policy.card.action_dim)
    probabilities = shares(frames, trained, settings.task_weights)
    engine = build_engine(config, policy, ranks)
    return SftTrainer(
        policy=policy,
        engine=engine,
        frames=frames,
        draws=Draws(
            trained, probabilities, settings, shape, new_generator(settings.seed), num_cameras=2
        ),
        held_out=held_out_draws(np.arange(12, 17), 4, 2, shape, seed=0),
        settings=settings,
        ranks=ranks,
        step=0,
        state={},
        mean=Snapshot(trained_parameters(policy)) if settings.ema_decay else None,
    )


def fine_tune(
    policy: Pi0Policy,
    settings: SftSettings = SETTINGS,
    ranks: Any = SINGLE_PROCESS,
    **chosen: Any,
) -> list[dict[str, float]]:
    """Train in place and return the metrics of every step."""
    trainer = make_trainer(policy, settings, ranks, **chosen)
    lines: list[dict[str, float]] = []
    trainer.train(lambda step, metrics: lines.append({"step": step, **metrics}))
    return lines


def weights(policy: Pi0Policy) -> torch.Tensor:
    return torch.cat([p.detach().float().flatten() for p in policy.network.parameters()])


@pytest.mark.parametrize("is_pi05", [False, True])
def test_it_lowers_the_loss_and_repeats_bit_for_bit(is_pi05: bool):
    settings = SftSettings(
        num_steps=12,
        frames_per_step=12,
        draws_per_frame=6,
        warmup_steps=2,
        lr=1e-2,
        task_weights=(),
    )
    one, two = (small_policy(is_pi05=is_pi05) for _ in range(2))

    losses, again = ([m["sft/loss"] for m in fine_tune(p, settings)] for p in (one, two))

    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert losses == again
    assert torch.equal(weights(one), weights(two))


@pytest.mark.parametrize("trained", ["all", "expert", "lora"])
def test_only_what_is_to_be_trained_changes(trained: str):
    policy, before = small_policy(), small_policy()

    lines = fine_tune(policy, expert_only=trained == "expert", lora_rank=2 * (trained == "lora"))

    old = dict(before.network.named_parameters())
    changed = {
        name
        for name, parameter in policy.network.named_parameters()
        if name.replace(".base_layer", "") in old
        and not torch.equal(parameter, old[name.replace(".base_layer", "")])
    }
    has_vision = any(name.startswith("core.model.vlm.") for name in changed)
    assert has_vision == (trained == "all")
    assert bool(changed) == (trained != "lora")
    assert [line["step"] for line in lines] == [1, 2, 3]


def test_the_held_out_loss_is_measured_when_due_and_at_the_end():
    lines = fine_tune(small_policy())

    assert ["sft/held_out_loss" in line for line in lines] == [False, True, True]


def test_micro_batches_do_not_change_the_step():
    whole, cut = small_policy(), small_policy()

    one = fine_tune(whole)
    other = fine_tune(cut, SftSettings(**{**vars(SETTINGS), "micro_batch": 4}))

    assert other[-1]["sft/loss"] == pytest.approx(one[-1]["sft/loss"], rel=1e-5)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=0, atol=1e-5)


def test_changed_images_are_other_images_and_repeat():
    plain, one, two = (small_policy() for _ in range(3))

    plain_lines = fine_tune(plain)
    lines, again = (fine_tune(policy, CHANGING) for policy in (one, two))

    # the first draw is the same but for the images
    assert lines[0]["sft/loss"] != plain_lines[0]["sft/loss"]
    assert lines[0]["sft/loss"] == pytest.approx(plain_lines[0]["sft/loss"], rel=0.2)
    assert [line["sft/loss"] for line in lines] == [line["sft/loss"] for line in again]
    assert torch.equal(weights(one), weights(two))


def test_the_mean_follows_every_step_and_leaves_learning_alone():
    plain, policy = small_policy(), small_policy()
    fine_tune(plain)
    trainer, expected, last = make_trainer(policy, AVERAGED), weights(policy), None

    def follow(step: int, metrics: Any) -> None:
        nonlocal expected, last
        last = weights(policy)
        expected = 0.75 * expected + 0.25 * last  # openpi's rule

    trainer.train(follow)

    with trainer.averaged():
        torch.testing.assert_close(weights(policy), expected, rtol=0, atol=5e-7)
    assert torch.equal(weights(policy), last)
    assert torch.equal(last, weights(plain))
    assert not torch.equal(expected, last)


def test_the_held_out_loss_is_that_of_the_mean():
    policy = small_policy()
    trainer, lines = make_trainer(policy, AVERAGED), []
    trainer.train(lambda step, metrics: lines.append(metrics))

    plain = fine_tune(small_policy())

    assert lines[-1]["sft/loss"] == plain[-1]["sft/loss"]
    assert lines[-1]["sft/held_out_loss"] != plain[-1]["sft/held_out_loss"]


def test_a_step_that_is_not_finite_is_not_taken():
    policy = small_policy()
    with torch.no_grad():
        policy.network.core.action_out_proj.bias[0] = float("nan")

    with pytest.raises(ValueError, match=r"step 1 was not taken; lower --lr or look at the data"):
        fine_tune(policy)


def train_on_ranks(process_group: Any, strategy: str) -> tuple[torch.Tensor, list[float]]:
    torch_settings.MAX_THREADS = 1
    policy = small_policy()
    lines: list[dict[str, float]] = []
    trainer = make_trainer(policy, CHANGING, process_group, strategy=strategy)
    trainer.train(lambda step, metrics: lines.append(dict(metrics)))
    with trainer.averaged():
        mean = weights(policy)
    return torch.stack([weights(policy), mean]), [
        line.get("sft/held_out_loss", line["sft/loss"]) for line in lines
    ]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_take_the_steps_that_one_takes(strategy: str):
    single, lines = small_policy(), []
    trainer = make_trainer(single, CHANGING)
    trainer.train(lambda step, metrics: lines.append(metrics))
    with trainer.averaged():
        mean = weights(single)

    (one, losses), (two, same) = run_ranks(2, train_on_ranks, strategy)

    assert torch.equal(one, two)
    assert losses == same
    assert losses == pytest.approx(
        [line.get("sft/held_out_loss", line["sft/loss"]) for line in lines], abs=1e-5
    )
    torch.testing.assert_close(one, torch.stack([weights(single), mean]), rtol=0, atol=1e-5)
