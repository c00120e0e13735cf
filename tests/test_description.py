"""The card holds what a result depends on, in one screen and as JSON."""

import json

from pi0.description import describe_policy, description_text
from tests.policy_parts import small_policy


def test_card_counts_every_parameter_once():
    card = describe_policy(small_policy())
    total = sum(parameter.numel() for parameter in small_policy().network.parameters())
    assert card["parameters"] == total
    assert card["parameters_vision_language"] + card["parameters_expert"] == total


def test_card_is_json_and_one_screen():
    card = describe_policy(small_policy())
    assert json.loads(json.dumps(card)) == card
    lines = description_text(card).splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) < 100
    assert "  cameras           agentview, robot0_eye_in_hand" in lines


def test_other_statistics_have_another_hash():
    policy, other = small_policy(), small_policy()
    assert describe_policy(policy) == describe_policy(other)
    other.codec.stats.actions["mean"][0] += 1e-9
    assert describe_policy(policy)["norm_stats_hash"] != describe_policy(other)["norm_stats_hash"]
