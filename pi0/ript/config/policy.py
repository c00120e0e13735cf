"""Settings of how the policy is run."""

from dataclasses import dataclass, field
from typing import Literal

from pi0.ript.config.checks import require
from pi0.ript.config.policy_overrides import PolicyOverrides

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (needs ``pip install 'pi0-ript[lora]'``).

    Attributes:
        rank: Rank of the adapters; 0 trains weights instead of adapters. Checkpoints hold them merged.
        targets: ``vlm`` (language model), ``expert`` or ``both``. Only ``expert`` leaves the prefix as it
            is, so that an update computes it once per row.
    """

    rank: int = 0
    targets: Literal["vlm", "expert", "both"] = "expert"

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"policy.lora.rank must be >= 0, got {self.rank}")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How the policy is run.

    Attributes:
        device: ``auto`` takes the GPU if there is one; the choice is announced.
        batch_size: Rows per policy call. Smaller ready sets are padded to it, so that an answer
            never depends on which other simulators happened to be ready.
        denoise_steps: S, denoise steps while practising and evaluating.
        train_expert_only: Train the action expert and projections; the vision-language model is frozen.
        gradient_checkpointing: Compute every layer again in the backward pass: less memory, more time.
        compile: Run denoise steps through torch.compile; needs a C++ compiler on a CPU.
        lora: Low-rank adapters; they replace the choice of ``train_expert_only``.
        protocol: Preset of all pre- and post-processing; null takes the one that belongs to the
            checkpoint's layout, see docs/checkpoints.md.
        tokenizer_path: Overrides the tokenizer of the checkpoint: a tokenizer.json, a sentencepiece
            model or a folder with one.
        overrides: Single keys of the policy card.
    """

    device: Device = "auto"
    batch_size: int = 4
    denoise_steps: int = 4
    train_expert_only: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    protocol: Literal["openpi", "lerobot"] | None = None
    tokenizer_path: str | None = None
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"policy.batch_size must be >= 1, got {self.batch_size}")
        require(
            self.denoise_steps >= 2, f"policy.denoise_steps must be >= 2, got {self.denoise_steps}"
        )

    @property
    def has_frozen_prefix(self) -> bool:
        """Return whether nothing that is trained changes how pictures and instructions are read."""
        return self.lora.targets == "expert" if self.lora.rank else self.train_expert_only

    @property
    def trains_everything(self) -> bool:
        """Return whether the weights of the vision-language model change, too."""
        return not self.lora.rank and not self.train_expert_only
