"""What a checkpoint is made of: the policy at one moment, and what a run goes on with besides."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from torch import Tensor

from pi0.formats.base import Base
from pi0.model.lora import trained_tensors
from pi0.policy import Pi0Policy
from pi0.ript.engine.engine import EngineState
from pi0.ript.learner.replay import KeptStep


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySnapshot:
    """A policy as it is at one moment, while training goes on with it.

    Attributes:
        policy: Its card, and the weights that are not trained.
        trained: Copies on the CPU of what training has changed, see ``trained_tensors``.
        base: What it was trained from; None if its checkpoints are whole policies.
        is_whole: Whether its checkpoint is a whole policy, too.
    """

    policy: Pi0Policy
    trained: Mapping[str, Tensor]
    base: Base | None
    is_whole: bool

    @classmethod
    def of(
        cls,
        policy: Pi0Policy,
        base: Base | None = None,
        *,
        is_whole: bool = True,
        has_changed: bool = True,
    ) -> Self:
        """Return a snapshot; a policy that no optimizer step has changed is still its base."""
        copies = has_changed or base is None
        trained = trained_tensors(policy.network.core) if copies else {}
        return cls(
            policy=policy,
            trained={name: tensor.to("cpu", copy=True) for name, tensor in trained.items()},
            base=base,
            is_whole=is_whole,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNumbers:
    """What ``training_state/state.json`` holds.

    Attributes:
        step: RIPT steps finished.
        num_optimizer_steps: Optimizer steps taken.
        sampler_position: Initial states dealt.
        counters: Running totals by name, finite.
        config_hash: Identifies the settings of the run.
    """

    step: int
    num_optimizer_steps: int
    sampler_position: int
    counters: Mapping[str, int | float]
    config_hash: str

    def write(self, path: Path) -> None:
        """Write the numbers."""
        path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what ``write`` wrote.

        Raises:
            ValueError: The file holds something else; names the field.
        """
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({error}); use another checkpoint") from None
        if not isinstance(content, dict) or content.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"{path} must hold {', '.join(cls.__dataclass_fields__)}")
        for name in ("step", "num_optimizer_steps", "sampler_position"):
            if type(content[name]) is not int or content[name] < 0:
                raise ValueError(f"{path}: {name} must be a number >= 0, got {content[name]!r:.80}")
        if type(content["config_hash"]) is not str:
            raise ValueError(
                f"{path}: config_hash must be text, got {content['config_hash']!r:.80}"
            )
        _require_counters(path, content["counters"])
        return cls(**content)


def _require_counters(path: Path, counters: object) -> None:
    if not isinstance(counters, dict):
        raise ValueError(f"{path}: counters must be names with numbers, got {counters!r:.80}")
    for name, value in counters.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{path}: counter {name} must be a finite number, got {value!r:.80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything besides the weights that a run needs to continue with the numbers it would have had.

    Attributes:
        step: RIPT steps finished.
        engine: Optimizer moments and step count.
        sampler_position: ``InitialStateSampler.cursor``, under the name that files have for it.
        counters: Running totals of the trainer, plain numbers by name.
        config_hash: Identifies the settings of the run.
        objective: Earlier weights that the objective remembers; empty where it remembers none.
        acting: Earlier weights that act in the next step; empty where the saved ones do.
        replay: Samples of earlier steps that this rank keeps; None for a run without replay.
        critic: Weights and optimizer of the value head; empty without a critic.
    """

    step: int
    engine: EngineState
    sampler_position: int
    counters: Mapping[str, int | float]
    config_hash: str
    objective: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    acting: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    replay: Sequence[KeptStep] | None = None
    critic: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
