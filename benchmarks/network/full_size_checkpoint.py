"""A random pi0 in openpi's layout, bfloat16, with everything that lies beside the weights of a real one."""

import json
import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.network.models import HORIZON, Size, model_config
from pi0.formats.export import OPENPI_STATS
from pi0.formats.sizes import tensor_shapes
from pi0.formats.spellings import EMBEDDING, WRITTEN
from pi0.formats.weight_files import WEIGHTS, TensorSource, write_safetensors
from pi0.model.architecture import vlm_sizes
from pi0.tokenizer import build_tiny_tokenizer

WIDTH = 32  # of padded states and actions
BLOCK = 2**24  # random numbers, which large tensors repeat
WORDS = "put the bowl on the plate wine bottle rack open drawer turn stove"
BYTES_AND_SPECIAL = 256 + 5  # tokens of a stand-in tokenizer beside its words


def write_checkpoint(folder: Path, size: Size) -> None:
    """Write the folder that openpi's converter would leave, with a tokenizer of the right size."""
    write_beside(folder, size)
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))
    spelling = WRITTEN["openpi"]
    sources = {
        spelling.name_of(name): TensorSource(
            shape=shape, dtype=torch.bfloat16, read=partial(_random, block, name, shape)
        )
        for name, shape in tensor_shapes(model_config(size)).items()
    }
    write_safetensors(folder / WEIGHTS, sources)


def write_beside(folder: Path, size: Size) -> None:
    """Write everything but the weights."""
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", _openpi_config(size))
    _write_json(folder / OPENPI_STATS, {"norm_stats": {"state": _stats(8), "actions": _stats(7)}})
    vocabulary = vlm_sizes(model_config(size)).text_config.vocab_size
    known = sorted(set(WORDS.split()))
    fillers = [f"w{number}" for number in range(vocabulary - BYTES_AND_SPECIAL - len(known))]
    build_tiny_tokenizer([*known, *fillers]).save(str(folder / "tokenizer.json"), pretty=False)


def _random(block: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return weights scaled by fan-in; norms near 0 and biases small, so that a mistake in either shows."""
    count = math.prod(shape)
    start = len(name) * 7919 % (BLOCK // 2)
    repeats = -(-(start + count) // BLOCK)
    values = (block.repeat(repeats) if repeats > 1 else block)[start : start + count].view(shape)
    if len(shape) == 1:
        return values * 0.02
    scale = 1.0 if name == EMBEDDING else math.sqrt(math.prod(shape[1:]))
    return values / scale


def _openpi_config(size: Size) -> dict[str, object]:
    raw: dict[str, object] = {
        "action_dim": WIDTH,
        "action_horizon": HORIZON,
        "precision": "bfloat16",
    }
    if size == "full":  # published sizes are not written
        return raw | {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
    whole = model_config(size).to_dict()
    return raw | {name: whole[name] for name in ("vlm_config", "dit_config")}


def _stats(width: int) -> dict[str, list[float]]:
    numbers = {"mean": 0.0, "std": 0.5, "q01": -1.0, "q99": 1.0}
    return {
        name: [number + 0.01 * axis for axis in range(width)] for name, number in numbers.items()
    }


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
