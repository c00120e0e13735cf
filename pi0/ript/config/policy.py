"""Settings of how the policy is run, and which keys of its card a run may replace."""

from dataclasses import dataclass, field
from typing import Literal

from pi0.ript.config.base import Auto, require

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class PolicyOverrides:
    """Keys of the policy card; null takes what the checkpoint or its protocol says.

    Attributes:
        horizon: H, actions of an action chunk.
        execute_steps: h, actions executed before the policy observes again.
        action_dim: A, action width of the network, padding included.
        state_dim: State width of the network, padding included.
        cameras: LIBERO camera names in the order the network was trained with; empty takes the checkpoint's.
        render_size: Height and width in pixels of the images that the simulator draws.
        render_quality: ``exact`` gives LIBERO's own pixels, ``fast`` is right only for a policy trained so.
        rotate_180: Turn LIBERO's upside-down images by 180 degrees.
        resize: ``openpi`` shrinks with antialiasing, ``lerobot`` interpolates without.
        extra_delta: The first six actions are relative to the state at the start of the action chunk.
        gripper: The network's last action: ``libero`` is -1 (opens) to +1, else 0 to 1 and which end opens.
        norm_mode: Which numbers of the statistics are used.
        norm_formula: Whose epsilons are added to the scales.
        prompt_format: ``openpi`` cleans the instruction, ``lerobot`` takes it as it is.
        prompt_state: Numbers of the state in a pi0.5's prompt; LeRobot's checkpoints do not say it.
        max_prompt_tokens: Prompt length after padding.
        dtype: Precision of the vision-language model.
    """

    horizon: int | None = None
    execute_steps: int | None = None
    action_dim: int | None = None
    state_dim: int | None = None
    cameras: tuple[str, ...] = ()
    render_size: int | None = None
    render_quality: Literal["exact", "fast"] | None = None
    rotate_180: bool | None = None
    resize: Literal["openpi", "lerobot"] | None = None
    extra_delta: bool | None = None
    gripper: Literal["libero", "one_opens", "one_closes"] | None = None
    norm_mode: Literal["z_score", "quantile", "quantile10", "min_max"] | None = None
    norm_formula: Literal["openpi", "lerobot"] | None = None
    prompt_format: Literal["openpi", "lerobot"] | None = None
    prompt_state: Literal["none", "8", "32"] | None = None
    max_prompt_tokens: int | None = None
    dtype: Literal["float32", "bfloat16"] | None = None

    def chosen(self) -> dict[str, object]:
        """Return only what is set."""
        return {key: value for key, value in vars(self).items() if value not in (None, ())}


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (needs ``pip install 'pi0-ript[lora]'``).

    Attributes:
        rank: Rank of the adapters; 0 trains weights instead of adapters. Checkpoints hold them merged.
        targets: ``vlm`` (language model), ``expert`` or ``both``. Only ``expert`` leaves the prefix as it
            is, so that an update computes it once per sample.
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
        batch_size: Most observations per policy call; ``auto`` is 4 on a CPU and 64 on a GPU. On a CPU smaller
            ready sets are padded to it, so that an action chunk never depends on which other simulators happened
            to be ready; on a GPU to 1, 2, 4, 8, 16, 32 or 64, and the size of a call shows in the last bits.
        denoise_steps: S, denoise steps in rollouts and evaluations of a run; the cards of its checkpoints say it,
            and ``ript eval`` and ``ript convert`` follow them.
        train_expert_only: Train the action expert and projections; the vision-language model is frozen.
        gradient_checkpointing: Compute every layer again in the backward pass: less memory, more time.
        compile: Run denoise steps through torch.compile, compared with the plain ones on the first observations of
            every size; needs a C++ compiler on a CPU.
        cuda_graphs: Replay denoise steps as CUDA graphs, one per size of a call, compared in the same way. Not
            measured on a GPU yet.
        lora: Low-rank adapters; they replace the choice of ``train_expert_only``.
        protocol: Preset of all pre- and post-processing; null takes the one that belongs to the
            checkpoint's layout, see docs/checkpoints.md.
        tokenizer_path: Overrides the tokenizer of the checkpoint: a tokenizer.json, a sentencepiece
            model or a folder with one.
        overrides: Single keys of the policy card.
    """

    device: Device = "auto"
    batch_size: int | Auto = "auto"
    denoise_steps: int = 4
    train_expert_only: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    protocol: Literal["openpi", "lerobot"] | None = None
    tokenizer_path: str | None = None
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)

    def __post_init__(self) -> None:
        require(
            self.batch_size == "auto" or self.batch_size >= 1,
            f"policy.batch_size must be >= 1 or auto, got {self.batch_size}",
        )
        require(
            not (self.compile and self.cuda_graphs),
            "policy.compile and policy.cuda_graphs are two ways to run the same denoise steps; set one to false",
        )
        require(
            self.denoise_steps >= 2, f"policy.denoise_steps must be >= 2, got {self.denoise_steps}"
        )

    @property
    def denoising(self) -> Literal["plain", "compiled", "graphs"]:
        """Return how denoise steps run."""
        if self.compile:
            return "compiled"
        return "graphs" if self.cuda_graphs else "plain"

    @property
    def has_frozen_prefix(self) -> bool:
        """Return whether nothing that is trained changes how images and instructions are encoded."""
        return self.lora.targets == "expert" if self.lora.rank else self.train_expert_only

    @property
    def trains_everything(self) -> bool:
        """Return whether the weights of the vision-language model change, too."""
        return not self.lora.rank and not self.train_expert_only
