"""Instructions become [image slots, begin, words, newline, padding]."""

import numpy as np
import pytest

from pi0.tokenizer import PromptTokenizer, build_tiny_tokenizer, read_tokenizer

PAD, BEGIN, NEWLINE = 0, 2, 5 + 0x0A  # five special tokens come before the 256 bytes
FIRST_WORD = 5 + 256


def prompts(max_prompt_tokens: int = 12, prompt_format: str = "openpi") -> PromptTokenizer:
    return PromptTokenizer(
        build_tiny_tokenizer(["open", "drawer", "the"]),
        image_token_id=4,
        num_image_tokens=3,
        max_prompt_tokens=max_prompt_tokens,
        prompt_format=prompt_format,
    )


def test_prefix_is_images_begin_words_newline_padding():
    ids, is_valid = prompts().encode(["open the drawer"])
    # words are sorted: drawer, open, the
    words = [FIRST_WORD + 1, FIRST_WORD + 2, FIRST_WORD]
    assert ids[0].tolist() == [4, 4, 4, BEGIN, *words, NEWLINE] + [PAD] * 7
    assert is_valid[0].tolist() == [True] * 8 + [False] * 7
    assert (ids.dtype, is_valid.dtype) == (np.int64, np.bool_)


def test_unknown_words_become_bytes():
    ids, _ = prompts().encode(["open box"])
    assert ids[0, 4:8].tolist() == [FIRST_WORD + 1, 5 + ord("b"), 5 + ord("o"), 5 + ord("x")]


def test_underscores_and_outer_spaces_do_not_matter():
    ids, _ = prompts().encode([" open_the_drawer\n", "open the drawer"])
    assert np.array_equal(ids[0], ids[1])


def test_samples_of_different_length_have_one_shape():
    ids, is_valid = prompts().encode(["open", "open the drawer"])
    assert ids.shape == is_valid.shape == (2, 15)
    assert is_valid.sum(-1).tolist() == [3 + 1 + 1 + 1, 3 + 1 + 3 + 1]


def test_too_long_instructions_are_refused_not_cut():
    with pytest.raises(ValueError, match="takes 5 tokens, allowed are 4"):
        prompts(max_prompt_tokens=4).encode(["open the drawer"])


def test_tokenizer_survives_the_disk(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(build_tiny_tokenizer(["open"]).to_str())
    assert read_tokenizer(path).encode("open").ids == [FIRST_WORD]


@pytest.mark.parametrize("text", ["", "{}", '{"model": 3}', "[1]"])
def test_foreign_files_are_refused(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        read_tokenizer(path)
