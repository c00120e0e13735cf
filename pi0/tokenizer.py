"""Instruction, and pi0.5's state -> token ids; everything is read from one local ``tokenizer.json``.

A prompt without the state is cached per instruction; one with the state is different in every policy step.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pi0.card import PromptFormat
from pi0.files import read_json

BEGIN_TOKEN = "<bos>"
NUM_BINS = 256  # of a number of the state: openpi models/tokenizer.py, LeRobot processor_pi05.py
MOST_CACHED = 4096  # instructions; a suite has tens
_EDGES = np.linspace(-1.0, 1.0, NUM_BINS + 1)[:-1]
_SPECIAL_TOKENS = ("<pad>", "<eos>", BEGIN_TOKEN, "<unk>", "<image>")


class PromptTokenizer:
    """Builds the network's prefix: image slots, begin token, prompt, padding."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        image_token_id: int,
        num_image_tokens: int,
        max_prompt_tokens: int,
        prompt_format: PromptFormat,
        prompt_state_dim: int = 0,
    ) -> None:
        """Prepare the encoder.

        Args:
            tokenizer: Its vocabulary must hold ``<bos>``.
            image_token_id: Stands for one image patch.
            num_image_tokens: Image patches of all cameras together.
            max_prompt_tokens: Prompt length after padding, begin token and newline included.
            prompt_format: How the instruction is cleaned, see ``PolicyCard``.
            prompt_state_dim: Numbers of the state in the prompt.
        """
        begin = tokenizer.token_to_id(BEGIN_TOKEN)
        if begin is None:
            raise ValueError(
                f"tokenizer.json has no {BEGIN_TOKEN} token; bring PaliGemma's tokenizer.json"
            )
        self.tokenizer = tokenizer
        self._begin: int = begin
        self._is_cleaned = prompt_format == "openpi"
        self._image_ids = [image_token_id] * num_image_tokens
        self._max_prompt_tokens = max_prompt_tokens
        self._prompt_state_dim = prompt_state_dim
        self._cache: dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def encode(
        self, tasks: Sequence[str], states: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return ids int64 [B, L] (0 is padding) and validity bool [B, L] of B prompts.

        Args:
            tasks: B instructions.
            states: [B, state_dim], normalized; read only where prompts hold the state.

        Raises:
            ValueError: A prompt is too long, or a number of the state is not finite.
        """
        if self._prompt_state_dim:
            prompts = state_prompts(tasks, states[:, : self._prompt_state_dim])
            encoded = self.tokenizer.encode_batch(prompts, add_special_tokens=False)
            samples = [self._pad(p, e.ids) for p, e in zip(prompts, encoded, strict=True)]
        else:
            samples = [self._encode_one(task) for task in tasks]
        return np.stack([ids for ids, _ in samples]), np.stack([mask for _, mask in samples])

    def _encode_one(self, task: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if task not in self._cache:
            if len(self._cache) == MOST_CACHED:  # clients of a server may send any number of them
                self._cache.clear()
            self._cache[task] = self._pad(
                task, _words(self.tokenizer, task, is_cleaned=self._is_cleaned)
            )
        return self._cache[task]

    def _pad(self, text: str, words: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        prompt = [self._begin, *words]
        if len(prompt) > self._max_prompt_tokens:
            raise ValueError(
                f"the instruction {text!r} takes {len(prompt)} tokens, allowed are "
                f"{self._max_prompt_tokens}; shorten it or raise max_prompt_tokens in policy.json"
            )
        ids = np.zeros(len(self._image_ids) + self._max_prompt_tokens, dtype=np.int64)
        num_valid = len(self._image_ids) + len(prompt)
        ids[:num_valid] = self._image_ids + prompt
        return ids, np.arange(len(ids)) < num_valid


def _words(tokenizer: Tokenizer, task: str, *, is_cleaned: bool) -> list[int]:
    """Return the tokens of an instruction and of its closing line break."""
    ended = task if task.endswith("\n") else f"{task}\n"
    # openpi encodes the line break on its own
    texts = [cleaned(task), "\n"] if is_cleaned else [ended]
    return [
        token for text in texts for token in tokenizer.encode(text, add_special_tokens=False).ids
    ]


def longest_prompt(tokenizer: Tokenizer, tasks: Iterable[str]) -> int:
    """Return the tokens of the longest prompt in openpi's format, begin token and line break included."""
    return 1 + max(len(_words(tokenizer, task, is_cleaned=True)) for task in tasks)


def cleaned(task: str) -> str:
    """Return an instruction as openpi gives it."""
    return task.strip().replace("_", " ").replace("\n", " ")


def state_prompts(tasks: Sequence[str], states: NDArray[np.floating]) -> list[str]:
    """Return pi0.5's prompts with the state in words.

    A number becomes its bin of 256 over [-1, 1): 128 for 0, 255 from 0.9921875 on, -1 below -1.

    Args:
        tasks: B instructions.
        states: [B, n], normalized.

    Raises:
        ValueError: A number is not finite; as a bin it would be 255.
    """
    if not np.isfinite(states).all():
        raise ValueError(
            f"the state is not finite: {states[~np.isfinite(states).all(axis=1)][0].tolist()}; "
            "check the normalization statistics and the simulator"
        )
    bins = np.digitize(states, _EDGES) - 1
    return [
        f"Task: {cleaned(task)}, State: {' '.join(map(str, row))};\nAction: "
        for task, row in zip(tasks, bins.tolist(), strict=True)
    ]


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``; nothing is downloaded."""
    raw = read_json(path)
    if not isinstance(raw.get("model"), dict) or "vocab" not in raw["model"]:
        raise ValueError(f"{path} holds no vocabulary; put PaliGemma's tokenizer.json there")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no usable tokenizer ({reason}); copy it again") from None


def build_tiny_tokenizer(words: Iterable[str]) -> Tokenizer:
    """Return a tokenizer with one token per known word; everything else falls back to bytes.

    Example: ``build_tiny_tokenizer(["open", "the", "drawer"])`` has 5 + 256 + 3 tokens.
    """
    pieces = sorted({part for word in words for part in word.split()})
    vocabulary = [(token, 0.0) for token in _SPECIAL_TOKENS]
    vocabulary += [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    vocabulary += [(piece, -1.0) for piece in pieces]
    unknown = _SPECIAL_TOKENS.index("<unk>")
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    return tokenizer
