"""Task text -> token ids, cached per task; everything is read from one local ``tokenizer.json``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pi0.card import PromptFormat
from pi0.files import read_json

BEGIN_TOKEN = "<bos>"
_SPECIAL_TOKENS = ("<pad>", "<eos>", BEGIN_TOKEN, "<unk>", "<image>")


class PromptTokenizer:
    """Builds the network's prefix: image slots, begin token, instruction, newline, padding."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        image_token_id: int,
        num_image_tokens: int,
        max_prompt_tokens: int,
        prompt_format: PromptFormat,
    ) -> None:
        """Prepare the encoder.

        Args:
            tokenizer: Its vocabulary must hold ``<bos>``.
            image_token_id: Stands for one image patch.
            num_image_tokens: Image patches of all cameras together.
            max_prompt_tokens: Prompt length after padding, begin token and newline included.
            prompt_format: How the instruction is cleaned, see ``PolicyCard``.
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
        self._cache: dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def encode(self, tasks: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return ids int64 [B, L] (0 is padding) and validity bool [B, L] of B instructions."""
        samples = [self._encode_one(task) for task in tasks]
        return np.stack([ids for ids, _ in samples]), np.stack([mask for _, mask in samples])

    def _encode_one(self, task: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if task not in self._cache:
            self._cache[task] = self._build(task)
        return self._cache[task]

    def _build(self, task: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        prompt = [self._begin, *self._words(task)]
        if len(prompt) > self._max_prompt_tokens:
            raise ValueError(
                f"the instruction {task!r} takes {len(prompt)} tokens, allowed are "
                f"{self._max_prompt_tokens}; shorten it or raise max_prompt_tokens in policy.json"
            )
        ids = np.zeros(len(self._image_ids) + self._max_prompt_tokens, dtype=np.int64)
        num_valid = len(self._image_ids) + len(prompt)
        ids[:num_valid] = self._image_ids + prompt
        return ids, np.arange(len(ids)) < num_valid

    def _words(self, task: str) -> list[int]:
        """Return the instruction and its closing line break."""
        if self._is_cleaned:
            # openpi encodes the line break on its own
            texts = [task.strip().replace("_", " ").replace("\n", " "), "\n"]
        else:
            texts = [task if task.endswith("\n") else f"{task}\n"]
        return [
            token
            for text in texts
            for token in self.tokenizer.encode(text, add_special_tokens=False).ids
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
