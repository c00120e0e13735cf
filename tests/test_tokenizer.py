"""Instructions become [image slots, begin, words, newline, padding]."""

import numpy as np
import pytest

from pi0.tokenizer import (
    PromptTokenizer,
    build_tiny_tokenizer,
    longest_prompt,
    read_tokenizer,
    state_prompts,
)

PAD, BEGIN, NEWLINE = 0, 2, 5 + 0x0A  # five special tokens come before the 256 bytes
FIRST_WORD = 5 + 256


def prompts(
    max_prompt_tokens: int = 12, prompt_format: str = "openpi", prompt_state_dim: int = 0
) -> PromptTokenizer:
    return PromptTokenizer(
        build_tiny_tokenizer(["open", "drawer", "the"]),
        image_token_id=4,
        num_image_tokens=3,
        max_prompt_tokens=max_prompt_tokens,
        prompt_format=prompt_format,
        prompt_state_dim=prompt_state_dim,
    )


def encode(tokenizer: PromptTokenizer, tasks: list[str], states=None):
    return tokenizer.encode(tasks, np.zeros((len(tasks), 8)) if states is None else states)


def test_prefix_is_images_begin_words_newline_padding():
    ids, is_valid = encode(prompts(), ["open the drawer"])
    # words are sorted: drawer, open, the
    words = [FIRST_WORD + 1, FIRST_WORD + 2, FIRST_WORD]
    assert ids[0].tolist() == [4, 4, 4, BEGIN, *words, NEWLINE] + [PAD] * 7
    assert is_valid[0].tolist() == [True] * 8 + [False] * 7
    assert (ids.dtype, is_valid.dtype) == (np.int64, np.bool_)


def test_unknown_words_become_bytes():
    ids, _ = encode(prompts(), ["open box"])
    assert ids[0, 4:8].tolist() == [FIRST_WORD + 1, 5 + ord("b"), 5 + ord("o"), 5 + ord("x")]


def test_underscores_and_outer_spaces_do_not_matter():
    ids, _ = encode(prompts(), [" open_the_drawer\n", "open the drawer"])
    assert np.array_equal(ids[0], ids[1])


def test_no_number_of_instructions_fills_the_memory(monkeypatch):
    monkeypatch.setattr("pi0.tokenizer.MOST_CACHED", 3)
    tokenizer = prompts()
    first, _ = encode(tokenizer, ["open 0"])
    for number in range(10):
        encode(tokenizer, [f"open {number}"])
        assert len(tokenizer._cache) <= 3
    assert np.array_equal(encode(tokenizer, ["open 0"])[0], first)


def test_the_longest_prompt_is_as_long_as_its_encoding():
    tasks = ["open", "open the drawer"]
    # begin, three words, newline
    assert longest_prompt(build_tiny_tokenizer(tasks), tasks) == 5


def test_samples_of_different_length_have_one_shape():
    ids, is_valid = encode(prompts(), ["open", "open the drawer"])
    assert ids.shape == is_valid.shape == (2, 15)
    assert is_valid.sum(-1).tolist() == [3 + 1 + 1 + 1, 3 + 1 + 3 + 1]


def test_too_long_instructions_are_refused_not_cut():
    with pytest.raises(ValueError, match="takes 5 tokens, allowed are 4"):
        encode(prompts(max_prompt_tokens=4), ["open the drawer"])


class TestPromptsWithTheState:
    def test_numbers_become_bins_as_numpy_digitizes_them(self):
        # 256 bins of width 1/128 from -1: 0 begins bin 128, 0.9921875 = 127/128 the last one
        state = [[-1.5, -1.0, -0.9999, 0.0, 0.5, 0.9921875, 1.0, 7.0]]
        (prompt,) = state_prompts([" open_the\ndrawer "], np.array(state))
        expected = "Task: open the drawer, State: -1 0 0 128 192 255 255 255;\nAction: "
        assert prompt == expected

    def test_only_the_numbers_that_the_card_names_are_read(self):
        states = np.zeros((1, 32))
        states[0, 8:] = np.nan
        ids, is_valid = encode(prompts(200, prompt_state_dim=8), ["open"], states)
        text = "Task: open, State: 128 128 128 128 128 128 128 128;\nAction: "
        tokenizer = build_tiny_tokenizer(["open", "drawer", "the"])
        words = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids[0, : int(is_valid.sum())].tolist() == [4, 4, 4, BEGIN, *words]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_is_never_the_last_bin(self, value):
        states = np.zeros((2, 8))
        states[1, 3] = value
        with pytest.raises(ValueError, match="the state is not finite"):
            encode(prompts(200, prompt_state_dim=8), ["open", "open"], states)

    def test_prompts_follow_the_state_of_each_sample(self):
        states = np.stack([np.zeros(8), np.full(8, 0.5), np.zeros(8)])
        ids, _ = encode(prompts(200, prompt_state_dim=8), ["open"] * 3, states)
        assert np.array_equal(ids[0], ids[2])
        assert not np.array_equal(ids[0], ids[1])

    def test_what_does_not_fit_with_the_state_is_refused(self):
        with pytest.raises(
            ValueError, match=r"takes \d+ tokens, allowed are 12.*max_prompt_tokens"
        ):
            encode(prompts(12, prompt_state_dim=8), ["open"])


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
