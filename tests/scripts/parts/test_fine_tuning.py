"""A new tiny policy knows its instructions, however long they are."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.scripts.parts.fine_tuning import Chosen, new_tiny_policy
from tests.sft.frames import made_frames


@pytest.mark.parametrize(("num_words", "num_tokens"), [(3, 16), (14, 16), (15, 24), (17, 24)])
def test_prompts_have_room_for_the_longest_instruction(num_words: int, num_tokens: int):
    """Begin token and line break come to the words; 16 tokens at least, in steps of 8."""
    tasks = (" ".join(f"word{n}" for n in range(num_words)), "open the drawer")
    frames = replace(made_frames(num_cameras=1), tasks=tasks)
    chosen = Chosen(frames=frames, trained=np.arange(len(frames)), held_out=np.arange(0))

    policy = new_tiny_policy(chosen, seed=0)

    assert policy.card.max_prompt_tokens == num_tokens
