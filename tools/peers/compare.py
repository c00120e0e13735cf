r"""Action chunks of openpi's PyTorch model and of LeRobot's, beside ours: same weights, same inputs, same noise.

A tiny pi0 and a tiny pi0.5 with random weights are written by ``ript convert``'s exporter, loaded by the peer's own
strict loader in the peer's own environment, and by ours. The environments are made once, outside of the checkout, for
the peers pin other versions of torch and transformers:

    python3.11 -m venv OPENPI && OPENPI/bin/pip install torch==2.13.0 'numpy<2' safetensors 'tokenizers<0.22' \
        'huggingface-hub<1' regex requests pyyaml jax==0.5.3 flax==0.10.2 jaxtyping==0.2.36 beartype==0.19.0 einops pytest pillow
    OPENPI/bin/pip install --no-deps rlinf-openpi==0.1.1 rlinf-transformer-openpi==4.53.2
    python3.12 -m venv LEROBOT && LEROBOT/bin/pip install 'lerobot[pi]==0.6.1'

    python tools/peers/compare.py --openpi OPENPI/bin/python --lerobot LEROBOT/bin/python
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import PI0Config

from pi0.card import PI05, PROTOCOLS, SHARED, PolicyCard, Protocol
from pi0.checkpoint import load_policy, new_policy, save_policy
from pi0.formats.export import Target, export_folder
from pi0.formats.folder import Choices, read_folder
from pi0.model.gemma import AdaptiveNorm
from pi0.norm_stats import NormStats
from pi0.policy import Pi0Policy
from pi0.tokenizer import build_tiny_tokenizer

HERE = Path(__file__).parent
TOLERANCES: dict[Target, float] = {"openpi": 2e-5, "lerobot": 3e-5}
STEPS, HORIZON, WIDTH, TOKENS, SAMPLES = 10, 5, 32, 12, 2
IMAGE, PATCH = 224, 112
MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0
TOKENIZER = build_tiny_tokenizer(["open"])
VOCABULARY = TOKENIZER.get_vocab_size()
EXPERT = {"hidden_size": 24, "intermediate_size": 36}
TEXT = {
    "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": IMAGE, "patch_size": PATCH, "vision_use_head": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Largest differences of two action chunks, in the model's units.

    Attributes:
        as_it_is: Between the peer's and what a policy here does.
        same_clock: The same with the peer's time embedding, see ``DoubleSinusoid`` and ``times_of``.
        scale: Largest number of the chunks.
    """

    as_it_is: float
    same_clock: float
    scale: float


class DoubleSinusoid(torch.nn.Module):
    """The time embedding in float64, as both PyTorch ports compute it on a CPU.

    openpi's JAX model and transformers compute it in float32, and so do we. At the shortest period, 4e-3, what float32
    rounds of 2 pi t / 4e-3 is up to 1e-4.
    """

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        """Return sines and cosines, float32 [n, W], of times float32 [n]."""
        fraction = torch.linspace(0.0, 1.0, EXPERT["hidden_size"] // 2, dtype=torch.float64)
        periods = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
        angles = 2.0 * math.pi / periods * times.double()[:, None]
        return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def main() -> int:
    """Print a table; 1 if a difference is above its tolerance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for target in TOLERANCES:
        parser.add_argument(f"--{target}", metavar="PYTHON", help=f"of {target}'s environment")
    arguments = parser.parse_args()
    chosen: dict[Target, str] = {
        target: getattr(arguments, target) for target in TOLERANCES if getattr(arguments, target)
    }
    if not chosen:
        parser.error("give --openpi PYTHON, --lerobot PYTHON or both")
    columns = ("as it is", "same clock", "tolerance", "largest action")
    print(f"{'peer':<10}{'model':<8}" + "".join(f"{name:>16}" for name in columns))
    is_bad = False
    for target, python in chosen.items():
        for is_pi05 in (False, True):
            found, limit = compare(target, python, is_pi05=is_pi05), TOLERANCES[target]
            is_bad |= not found.same_clock <= limit
            numbers = (found.as_it_is, found.same_clock, limit, found.scale)
            model = "pi0.5" if is_pi05 else "pi0"
            print(f"{target:<10}{model:<8}" + "".join(f"{number:>16.2g}" for number in numbers))
    return 1 if is_bad else 0


def compare(target: Target, python: str, *, is_pi05: bool) -> Differences:
    """Let both act on the same inputs."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        save_policy(tiny_policy(target, is_pi05=is_pi05), work / "ours")
        export_folder(read_folder(work / "ours", Choices()), work / "theirs", target)
        given = draw_inputs()
        save_file(given, work / "inputs.safetensors")
        (work / "sizes.json").write_text(json.dumps(peer_sizes()))
        plain, matched = (load_exported(work / "theirs", target, is_pi05=is_pi05) for _ in range(2))
        run_peer(target, python, work, is_pi05=is_pi05)
        theirs = load_file(work / "actions.safetensors")["actions"]
    ours = chunks_of(plain, given, times_of("lerobot"))
    matched.network.core.embed_action_time.sinusoid_embeds = DoubleSinusoid()
    same_clock = chunks_of(matched, given, times_of(target))
    return Differences(
        as_it_is=float(np.abs(ours - theirs).max()),
        same_clock=float(np.abs(same_clock - theirs).max()),
        scale=float(np.abs(theirs).max()),
    )


def tiny_policy(target: Target, *, is_pi05: bool) -> Pi0Policy:
    """Return a policy with random weights, gates open, in the conventions of one project."""
    protocol: Protocol = "lerobot" if target == "lerobot" else "openpi"
    keys: dict[str, Any] = {**SHARED, **PROTOCOLS[protocol], **(PI05[protocol] if is_pi05 else {})}
    keys |= {"layout": "native", "protocol": protocol, "dtype": "float32", "image_size": IMAGE}
    keys |= {
        "horizon": HORIZON,
        "execute_steps": HORIZON,
        "prompt_state": "8" if is_pi05 else "none",
    }
    card = PolicyCard(**keys)
    sizes = TEXT | {"model_type": "gemma"}
    config = PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": sizes,
            "vision_config": VISION | {"model_type": "siglip_vision_model"},
            "projection_dim": TEXT["hidden_size"],
            "image_token_index": 4,
        },
        dit_config=sizes | EXPERT,
        chunk_size=HORIZON,
        max_state_dim=WIDTH,
        max_action_dim=WIDTH,
        **({"pi05": True} if is_pi05 else {}),
    )
    policy = new_policy(
        config=config,
        card=card,
        stats=plain_stats(is_relative=card.extra_delta),
        tokenizer=TOKENIZER,
        seed=5,
    )
    generator = torch.Generator().manual_seed(6)
    for module in policy.network.modules():
        if isinstance(module, AdaptiveNorm):
            torch.nn.init.normal_(module.dense.weight, std=0.3, generator=generator)
    return policy


def plain_stats(*, is_relative: bool) -> NormStats:
    """Return statistics that no comparison depends on: inputs and outputs are in the model's units."""
    state, actions = (
        {"mean": np.zeros(n), "std": np.ones(n), "q01": -np.ones(n), "q99": np.ones(n)}
        for n in (8, 7)
    )
    if is_relative:  # means of actions minus those of states, as the reader checks
        state["mean"][3], actions["mean"][3] = 3.0, -3.0
    return NormStats(state=state, actions=actions)


def draw_inputs() -> dict[str, np.ndarray]:
    """Return what both sides are given; prompts of different length."""
    rng = np.random.default_rng(0)
    is_valid = np.arange(TOKENS) < np.array([[TOKENS], [TOKENS - 5]])
    return {
        "images": rng.integers(0, 256, (SAMPLES, 2, IMAGE, IMAGE, 3), dtype=np.uint8),
        "tokens": rng.integers(5, VOCABULARY, (SAMPLES, TOKENS)) * is_valid,
        "mask": is_valid,
        "state": rng.normal(size=(SAMPLES, WIDTH)).astype(np.float32),
        "noise": rng.normal(size=(SAMPLES, HORIZON, WIDTH)).astype(np.float32),
    }


def peer_sizes() -> dict[str, Any]:
    """Return the tiny sizes in the words of openpi's and LeRobot's tables."""
    words = {
        "width": "hidden_size", "depth": "num_hidden_layers", "mlp_dim": "intermediate_size",
        "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads", "head_dim": "head_dim",
    }  # fmt: skip
    expert = TEXT | EXPERT
    return {
        "language": {theirs: TEXT[ours] for theirs, ours in words.items()},
        "expert": {theirs: expert[ours] for theirs, ours in words.items()},
        "vision": VISION,
        "vocabulary": VOCABULARY,
        "horizon": HORIZON,
        "steps": STEPS,
    }


def run_peer(target: Target, python: str, work: Path, *, is_pi05: bool) -> None:
    """Let the peer load its folder and write ``actions.safetensors``."""
    program = HERE / f"{target}_side.py"
    command = [python, str(program), str(work), "pi05" if is_pi05 else "pi0"]
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environ = {key: value for key, value in os.environ.items() if key not in hidden}
    environ |= {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{target} failed:\n{done.stdout}\n{done.stderr}")


def load_exported(folder: Path, target: Target, *, is_pi05: bool) -> Pi0Policy:
    """Load what was exported by our own reader; LeRobot's files do not say the state of a prompt."""
    is_unsaid = is_pi05 and target == "lerobot"
    return load_policy(folder, overrides={"prompt_state": "8"} if is_unsaid else {})


def times_of(target: Target) -> tuple[float, ...]:
    """Return the times of a peer's denoise steps.

    openpi takes 1/S off a float32 again and again, which rounds, too.
    """
    if target == "lerobot":
        return tuple(1.0 - step / STEPS for step in range(STEPS))
    time, times = np.float32(1.0), []
    for _ in range(STEPS):
        times.append(float(time))
        time += np.float32(-1.0 / STEPS)
    return tuple(times)


@torch.no_grad()
def chunks_of(
    policy: Pi0Policy, given: dict[str, np.ndarray], times: tuple[float, ...]
) -> np.ndarray:
    """Return our action chunks in the model's units; the third camera is left out instead of masked."""
    network = policy.network
    pixels = torch.from_numpy(given["images"]).permute(0, 1, 4, 2, 3).float() / 255.0 * 2.0 - 1.0
    shown = pixels.shape[1] * (IMAGE // PATCH) ** 2
    ids = torch.nn.functional.pad(torch.from_numpy(given["tokens"]), (shown, 0))
    is_valid = torch.nn.functional.pad(torch.from_numpy(given["mask"]), (shown, 0), value=True)
    cache = network.prefix(pixels, ids, is_valid)
    x, state = torch.from_numpy(given["noise"]), torch.from_numpy(given["state"])
    layout = network.layout(cache, 1, is_static=True)
    for condition in network.time_grid(times):
        x = x - network.denoise(cache, state, x, condition, layout) / STEPS
    return x.numpy()


if __name__ == "__main__":
    sys.exit(main())
