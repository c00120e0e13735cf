"""One truth for denoise steps: what a run trains with stands in the cards of its checkpoints."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from pi0.card import read_policy_card
from pi0.ript.config.policy import PolicyConfig
from pi0.ript.scripts.eval import parse
from pi0.ript.scripts.parts.evaluate_policy import settings_of
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.store import find_last
from tests.policy_parts import small_policy
from tests.train.toy_training import ONE_GROUP
from tests.train.toy_world import toy_trainer


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    warnings = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    return [line for line in warnings if "card" in line and "denoise_steps" in line]


def test_a_checkpoint_holds_what_it_was_trained_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = replace(ONE_GROUP, policy=PolicyConfig(device="cpu", denoise_steps=3))
    policy = small_policy()
    assert policy.card.denoise_steps == 4

    with toy_trainer(config, policy, tmp_path) as (trainer, pool):
        pool.succeeds = lambda slot: slot % 2 == 0
        trainer.train()

    (warning,) = warnings_in(caplog)
    assert "policy.denoise_steps is 3 and the policy's card says 4" in warning
    checkpoint = find_last(tmp_path)
    assert checkpoint is not None
    card = read_policy_card(checkpoint / POLICY_FOLDER / "policy.json")
    assert card == replace(small_policy().card, denoise_steps=3)

    caplog.clear()
    with toy_trainer(config, small_policy(), tmp_path, resumes=True):
        assert not warnings_in(caplog)


@pytest.mark.parametrize(("flags", "expected"), [([], 4), (["--denoise_steps", "7"], 7)])
def test_an_evaluation_follows_the_card_and_says_where_it_does_not(
    caplog: pytest.LogCaptureFixture, flags: list[str], expected: int
):
    arguments = parse(["--suite", "libero_goal", "--tasks", "7", *flags])
    with caplog.at_level(logging.WARNING):
        settings = settings_of(arguments, "DIR", small_policy())

    assert settings["denoise_steps"] == expected
    said = [
        "--denoise_steps is 7 and the card of DIR says 4, which it was trained with or made for"
    ]
    assert warnings_in(caplog) == (said if flags else [])
