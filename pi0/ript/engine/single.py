"""One device: gradients, clipping, warm-up and AdamW, with a state that can be stored exactly."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.sharded_tensors import StoredShards, is_finite, shard_like

_WEIGHT = "weight"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class SingleEngine:
    """Changes the weights of one network on one device.

    Args:
        parameters: What is trained; floating point 32 bit, because steps of 1e-6 vanish in 16 bit.
        optimizer: AdamW settings.
        lr: Learning rate after warm-up.
        warmup_steps: Optimizer steps of linear rise; step n (from 0) uses ``lr * (n + 1) / warmup_steps``.
        grad_norm_clip: Bound of the total gradient norm.
        kept_weights: Numbers of the parameters that ``state`` holds, so that ``load_state`` brings them back.
    """

    needs_equal_passes = False

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: OptimizerConfig,
        lr: float,
        warmup_steps: int,
        grad_norm_clip: float,
        *,
        kept_weights: Iterable[int] = (),
    ) -> None:
        self._parameters = list(parameters)
        _check_parameters(self._parameters)
        self._lr = lr
        self._warmup_steps = warmup_steps
        self._grad_norm_clip = grad_norm_clip
        self._kept = set(kept_weights)
        self._num_steps = 0
        self._adamw = torch.optim.AdamW(
            self._parameters,
            lr=lr,
            betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=optimizer.weight_decay,
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return self._parameters

    @property
    def next_lr(self) -> float:
        """Return the learning rate of the next step."""
        return self._lr * min(1.0, (self._num_steps + 1) / max(1, self._warmup_steps))

    def learning(self) -> nullcontext[None]:
        """Nothing has to be prepared."""
        return nullcontext()

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Return the values: there is no other rank."""
        return list(values)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss to what has been accumulated since the last step."""
        loss.backward()

    def step(self, lr_share: float = 1.0) -> float:
        """Clip, take one AdamW step, forget the gradient; return the gradient norm before clipping.

        Args:
            lr_share: What of the learning rate is used, in (0, 1]. A factor of the gradient would do nothing:
                the clip takes it away where gradients are long, AdamW where they all have it.

        Raises:
            FloatingPointError: If the gradient is not finite; weights and moments stay as they were.
        """
        grad_norm = float(nn.utils.clip_grad_norm_(self._parameters, self._grad_norm_clip))
        if not torch.isfinite(torch.tensor(grad_norm)):
            self.discard()
            raise FloatingPointError(
                f"gradient norm is {grad_norm} at optimizer step {self._num_steps}"
            )
        for group in self._adamw.param_groups:
            group["lr"] = lr_share * self.next_lr
        self._adamw.step()
        self._num_steps += 1
        self.discard()
        return grad_norm

    def discard(self) -> None:
        """Forget the accumulated gradient without a step."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> EngineState:
        """Return a copy of the state on the CPU."""
        tensors = {
            f"{number}.{name}": tensor.detach().to("cpu", copy=True)
            for number, parameter in enumerate(self._parameters)
            for name, tensor in self._tensors_of(number, parameter).items()
        }
        return EngineState(tensors=tensors, num_steps=self._num_steps)

    def load_state(self, state: EngineState) -> None:
        """Continue from a stored state, bit for bit.

        Raises:
            ValueError: If the state belongs to other parameters.
        """
        weights, loaded = _sort_by_parameter(self._parts(state.tensors))
        # more than are kept came from runs of cfg that stored every weight twice
        if not self._kept <= weights.keys() or (weights and not self._kept):
            raise ValueError(
                f"optimizer state holds the weights of {len(weights)} parameters, expected {len(self._kept)}; "
                "the checkpoint was trained with another policy.lora"
            )
        for number, moments in loaded.items():
            self._check_moments(number, moments)
        with torch.no_grad():
            for number, weight in weights.items():
                self._parameters[number].copy_(shard_like(self._parameters[number], weight))
        self._adamw.state.clear()
        for number, moments in loaded.items():
            parameter = self._parameters[number]
            # AdamW counts its steps in a CPU tensor, whatever the device of the weights.
            self._adamw.state[parameter] = {
                name: tensor.clone() if name == "step" else shard_like(parameter, tensor)
                for name, tensor in moments.items()
            }
        self._num_steps = state.num_steps

    def _parts(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the stored tensors, or this rank's shards of those that are stored as shards."""
        if not isinstance(stored, StoredShards):
            return stored
        numbers = {name: name.partition(".")[0] for name in stored}
        parameters = {str(number): p for number, p in enumerate(self._parameters)}
        return stored.parts_like(
            {name: parameters[n] for name, n in numbers.items() if n in parameters}
        )

    def _tensors_of(self, number: int, parameter: nn.Parameter) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = self._adamw.state.get(parameter, {})
        return moments | {_WEIGHT: parameter} if number in self._kept else moments

    def _check_moments(self, number: int, moments: Mapping[str, Tensor]) -> None:
        parameter = self._parameters[number] if number < len(self._parameters) else None
        for name in _MOMENTS:
            found = _kind(moments[name]) if name in moments else "missing"
            expected = "nothing" if parameter is None else _kind(parameter)
            if parameter is not None and name == "step":
                expected = "float32 []"
            if found != expected or not is_finite(moments[name]):
                raise ValueError(
                    f"optimizer state of parameter {number}: {name} is {found}, expected finite {expected}; "
                    "the checkpoint was trained with another network or policy.train_expert_only"
                )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _sort_by_parameter(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[int, Tensor], dict[int, dict[str, Tensor]]]:
    """Return the stored weights and the stored moments by parameter number."""
    weights: dict[int, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        if not number.isdecimal() or name not in (_WEIGHT, *_MOMENTS):
            raise ValueError(f"optimizer state holds {key!r}, which no engine wrote")
        if name == _WEIGHT:
            weights[int(number)] = tensor
        else:
            moments.setdefault(int(number), {})[name] = tensor
    return weights, moments


def _check_parameters(parameters: list[nn.Parameter]) -> None:
    if not parameters:
        raise ValueError("nothing to train: the engine was given no parameters")
    dtypes = {parameter.dtype for parameter in parameters} - {torch.float32, torch.float64}
    if dtypes:
        raise ValueError(
            f"trained parameters must be float32, got {sorted(map(str, dtypes))}; "
            "set policy.train_expert_only to true or load the policy with keeps_masters"
        )
