"""A GPU computes in bfloat16 unless float32 was asked for; what it does is said, and what it cannot is refused."""

import pytest

from pi0.precision import card_on, choose_on_gpu
from tests.policy_parts import small_card


def card(dtype):
    return small_card(dtype=dtype)


def test_weights_that_happen_to_be_float32_compute_in_bfloat16():
    chosen, reason = choose_on_gpu(card("float32"), is_given=False, has_bfloat16=True)
    assert chosen.dtype == "bfloat16"
    assert "--policy.overrides.dtype float32" in reason


@pytest.mark.parametrize(
    ("is_given", "has_bfloat16"), [(True, True), (True, False), (False, False)]
)
def test_float32_stays_where_it_was_asked_for_or_nothing_else_is_there(is_given, has_bfloat16):
    chosen, reason = choose_on_gpu(card("float32"), is_given=is_given, has_bfloat16=has_bfloat16)
    assert chosen.dtype == "float32"
    assert "without TF32" in reason


def test_bfloat16_needs_a_gpu_that_computes_it():
    assert choose_on_gpu(card("bfloat16"), is_given=True, has_bfloat16=True)[0].dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"compute capability below 8\.0.*dtype float32"):
        choose_on_gpu(card("bfloat16"), is_given=False, has_bfloat16=False)


def test_a_cpu_follows_the_card():
    float32 = card("float32")
    assert card_on("cpu", float32, is_given=False) is float32
