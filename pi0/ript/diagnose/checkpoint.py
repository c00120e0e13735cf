"""Is a checkpoint folder complete and consistent? Everything is read but the tensors' values."""

import math
from dataclasses import dataclass
from pathlib import Path

from pi0.checkpoint import find_folder
from pi0.formats.folder import Choices, Contents, read_folder
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is known of a checkpoint.

    Attributes:
        findings: One for the folder and one for its tokenizer, or one that says what is wrong.
        contents: None if the folder cannot be loaded.
    """

    findings: tuple[Finding, ...]
    contents: Contents | None

    @property
    def num_parameters(self) -> int:
        """Return the numbers that the tensors hold; 0 if nothing can be loaded."""
        if self.contents is None:
            return 0
        return sum(math.prod(tensor.shape) for tensor in self.contents.tensors.values())


def choices_of(config: TrainConfig) -> Choices:
    """Return what a run decides against the files of its policy."""
    stats, tokenizer = config.norm_stats_path, config.policy.tokenizer_path
    return Choices(
        protocol=config.policy.protocol,
        overrides=config.policy.overrides.chosen(),
        norm_stats_path=None if stats is None else Path(stats),
        tokenizer_path=None if tokenizer is None else Path(tokenizer),
    )


def check_checkpoint(path: str | Path, choices: Choices) -> Diagnosis:
    """Read a folder as loading would: every file, every tensor's name, shape and type.

    Args:
        path: ``builtin`` or a checkpoint folder.
        choices: What the user decides against the files.
    """
    try:
        contents = read_folder(find_folder(path), choices)
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())
        fix = "do what the line says; docs/checkpoints.md lists the files of every layout"
        broken = Finding(name="policy", status="error", text=text, fix=fix)
        return Diagnosis(findings=(broken,), contents=None)
    card = contents.card
    folder = Finding(
        name="policy",
        status="ok",
        text=f"{contents.folder}: {contents.layout} layout, protocol {card.protocol}, "
        f"{len(contents.tensors)} tensors, statistics {contents.stats.digest}"
        + "".join(f"; assumed: {line}" for line in contents.assumed)
        + "".join(f"; not followed: {line}" for line in contents.not_followed),
    )
    words = contents.tokenizer.get_vocab_size()
    tokenizer = Finding(name="tokenizer", status="ok", text=f"{words} tokens")
    return Diagnosis(findings=(folder, tokenizer), contents=contents)
