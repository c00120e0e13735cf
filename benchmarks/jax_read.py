"""Seconds and peak memory of reading one of openpi's JAX checkpoints at full size.

A folder with random numbers in the shapes of pi0 or pi0.5 (12.1 GiB in float32) is written as orbax lays it out, and
``ript convert`` makes an openpi PyTorch folder of it in a process of its own. Needs 28 GB on disk and the extra ``jax``.

    python benchmarks/jax_read.py --model pi05 --folder /tmp/jax_read [--layers 2] [--json FILE]
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorstore

from pi0.tokenizer import build_tiny_tokenizer

VOCABULARY, PATCHES = 257_152, 256
MOST_IN_A_PIECE = 1 << 28  # numbers; larger arrays are stored in pieces that span all layers
SPREADS = {"std": 1.0, "q01": -1.0, "q99": 1.0}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(model: str, layers: int, vision_layers: int) -> Shapes:
    """Return the shape of every array, by its path below ``params``."""
    shapes: Shapes = dict(_vision(vision_layers))
    shapes["PaliGemma/llm/embedder/input_embedding"] = (VOCABULARY, 2048)
    for suffix, width, hidden in (("", 2048, 16_384), ("_1", 1024, 4096)):
        shapes |= _gemma(
            suffix, width, hidden, layers, is_adaptive=model == "pi05" and bool(suffix)
        )
    dense = {"action_in_proj": (32, 1024), "action_out_proj": (1024, 32)}
    if model == "pi05":
        dense |= {"time_mlp_in": (1024, 1024), "time_mlp_out": (1024, 1024)}
    else:
        dense |= {"state_proj": (32, 1024), "action_time_mlp_in": (2048, 1024)}
        dense |= {"action_time_mlp_out": (1024, 1024)}
    for name, (rows, columns) in dense.items():
        shapes |= {f"{name}/kernel": (rows, columns), f"{name}/bias": (columns,)}
    return shapes


def _vision(depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    image = "PaliGemma/img"
    block = f"{image}/Transformer/encoderblock"
    attention = f"{block}/MultiHeadDotProductAttention_0"
    yield f"{image}/embedding/kernel", (14, 14, 3, 1152)
    yield f"{image}/embedding/bias", (1152,)
    yield f"{image}/pos_embedding", (1, PATCHES, 1152)
    for leaf in ("scale", "bias"):
        yield f"{image}/Transformer/encoder_norm/{leaf}", (1152,)
        yield f"{block}/LayerNorm_0/{leaf}", (depth, 1152)
        yield f"{block}/LayerNorm_1/{leaf}", (depth, 1152)
    for number, (rows, columns) in enumerate(((1152, 4304), (4304, 1152))):
        yield f"{block}/MlpBlock_0/Dense_{number}/kernel", (depth, rows, columns)
        yield f"{block}/MlpBlock_0/Dense_{number}/bias", (depth, columns)
    for name in ("query", "key", "value"):
        yield f"{attention}/{name}/kernel", (depth, 1152, 16, 72)
        yield f"{attention}/{name}/bias", (depth, 16, 72)
    yield f"{attention}/out/kernel", (depth, 16, 72, 1152)
    yield f"{attention}/out/bias", (depth, 1152)
    yield f"{image}/head/kernel", (1152, 2048)
    yield f"{image}/head/bias", (2048,)


def _gemma(suffix: str, width: int, hidden: int, depth: int, *, is_adaptive: bool) -> Shapes:
    layers = "PaliGemma/llm/layers"
    shapes: Shapes = {
        f"{layers}/attn/q_einsum{suffix}/w": (depth, 8, width, 256),
        f"{layers}/attn/kv_einsum{suffix}/w": (depth, 2, 1, width, 256),
        f"{layers}/attn/attn_vec_einsum{suffix}/w": (depth, 8, 256, width),
        f"{layers}/mlp{suffix}/gating_einsum": (depth, 2, width, hidden),
        f"{layers}/mlp{suffix}/linear": (depth, hidden, width),
    }
    norms: Shapes = {
        f"{layers}/{name}_norm{suffix}": (depth,) for name in ("pre_attention", "pre_ffw")
    }
    norms[f"PaliGemma/llm/final_norm{suffix}"] = ()
    for name, stacked in norms.items():
        if is_adaptive:
            shapes[f"{name}/Dense_0/kernel"] = (*stacked, width, 3 * width)
            shapes[f"{name}/Dense_0/bias"] = (*stacked, 3 * width)
        else:
            shapes[f"{name}/scale"] = (*stacked, width)
    return shapes


def write_checkpoint(folder: Path, shapes: Shapes, *, is_relative: bool) -> None:
    """Write arrays, list of arrays, statistics and a stand-in tokenizer of the right size."""
    params = folder / "params"
    params.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        _write_array(params, ".".join(("params", *name.split("/"))), shape, rng)
    paths = [("params", *name.split("/")) for name in shapes]
    listed = {
        str(path): {"key_metadata": [{"key": k, "key_type": 2} for k in path]} for path in paths
    }
    metadata = {"tree_metadata": listed, "use_zarr3": False, "custom_metadata": None}
    (params / "_METADATA").write_text(json.dumps(metadata))
    means = {"state": [0.0] * 3 + [3.0] + [0.0] * 4, "actions": [0.0] * 7}
    means["actions"][3] = -3.0 if is_relative else 0.0
    stats = {
        group: {"mean": mean, **{name: [value] * len(mean) for name, value in SPREADS.items()}}
        for group, mean in means.items()
    }
    (folder / "norm_stats.json").write_text(json.dumps({"norm_stats": stats}))
    words = build_tiny_tokenizer([])
    count = VOCABULARY - words.get_vocab_size()
    words = build_tiny_tokenizer([f"word{number}" for number in range(count)])
    words.save(str(folder / "tokenizer.json"))


def _write_array(params: Path, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    size = int(np.prod(shape))
    width = -(-shape[-1] * MOST_IN_A_PIECE // size) if size > MOST_IN_A_PIECE else shape[-1]
    base = {"driver": "file", "path": f"{params}/"}
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"},
        "metadata": {"chunks": [*shape[:-1], width], "compressor": {"id": "zstd", "level": 1}},
    }
    array = tensorstore.open(spec, create=True, dtype=tensorstore.float32, shape=shape).result()
    for start in range(0, shape[-1], width):
        end = min(start + width, shape[-1])
        numbers = rng.standard_normal((*shape[:-1], end - start), dtype=np.float32)
        array[..., start:end].write(numbers * 0.02).result()


def convert(folder: Path, destination: Path) -> dict[str, float]:
    """Run ``ript convert`` in a process of its own and return what it took."""
    program = "from pi0.ript.scripts.cli import main; main()"
    arguments = [
        "convert",
        folder,
        destination,
        "--format",
        "openpi",
        "--norm_stats_path",
        folder / "norm_stats.json",
    ]
    start = time.perf_counter()
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-c", program, *map(str, arguments)], os.environ
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"ript convert ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.perf_counter() - start,
        "peak_gib": usage.ru_maxrss / 2**20,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def main() -> None:
    """Write, convert, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("pi0", "pi05"), default="pi0")
    parser.add_argument("--folder", type=Path, required=True, help="where both folders are made")
    parser.add_argument("--layers", type=int, default=18, help="fewer for a rehearsal")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    source, converted = arguments.folder / "jax", arguments.folder / "openpi"
    for folder in (source, converted):
        shutil.rmtree(folder, ignore_errors=True)
    vision_layers = 27 if arguments.layers == 18 else arguments.layers
    shapes = shapes_of(arguments.model, arguments.layers, vision_layers)
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    largest = max(int(np.prod(shape)) for shape in shapes.values())
    start = time.perf_counter()
    write_checkpoint(source, shapes, is_relative=arguments.model == "pi0")
    result = {
        "model": arguments.model,
        "arrays": len(shapes),
        "gib": numbers * 4 / 2**30,
        "largest_array_gib": largest * 4 / 2**30,
        "write_s": time.perf_counter() - start,
        **convert(source, converted),
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
