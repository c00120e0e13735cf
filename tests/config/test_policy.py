"""Every override is a key of the policy card with the same choices."""

from typing import Literal, get_args, get_origin, get_type_hints

from pi0.card import PolicyCard
from pi0.ript.config.policy import PolicyOverrides


def test_overrides_are_keys_of_the_card_with_the_same_types():
    card = get_type_hints(PolicyCard)
    for key, hint in get_type_hints(PolicyOverrides).items():
        kind = next((kind for kind in get_args(hint) if kind is not type(None)), hint)
        if get_origin(kind) is Literal:
            assert get_args(kind) == get_args(card[key]), key
        elif key != "cameras":
            assert kind is card[key], key


def test_only_what_is_set_is_chosen():
    assert PolicyOverrides().chosen() == {}
    assert PolicyOverrides(extra_delta=False, cameras=("agentview",)).chosen() == {
        "extra_delta": False,
        "cameras": ("agentview",),
    }
