"""Checkpoints and action chunks that openpi's own JAX model wrote (jax 0.5.3, flax 0.10.2, orbax 0.11.13)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pi0.formats.jax.orbax import find_params, open_arrays
from pi0.formats.jax.sizes import sizes_of_tree
from pi0.formats.jax.tree import to_openpi
from pi0.formats.sizes import read_sizes as build_config
from pi0.model.architecture import unused_tensor_names
from pi0.model.network import Pi0Network
from tests.golden import golden

pytest.importorskip("tensorstore", reason="tensorstore is optional: pip install 'pi0-ript[jax]'")

HORIZON, STEPS, TOKENS_PER_CAMERA = 5, 10, 4
OURS = (
    ("paligemma_with_expert.paligemma.model.vision_tower.vision_model.", "model.vlm.vision_tower."),
    ("paligemma_with_expert.paligemma.model.", "model.vlm."),
    ("paligemma_with_expert.gemma_expert.model.", "model.dit."),
    ("action_out_proj.", "action_out_proj."),
    ("", "embed_action_time."),
)


def our_name(name: str) -> str:
    there, here = next(pair for pair in OURS if name.startswith(pair[0]))
    return here + name.removeprefix(there)


def load(folder: Path) -> Pi0Network:
    params = find_params(folder)
    assert params is not None
    arrays = open_arrays(params)
    sizes = sizes_of_tree(arrays) | {"chunk_size": HORIZON}
    network = Pi0Network(build_config(folder, sizes))
    unused = unused_tensor_names(network.config)
    tensors = {our_name(name): stored.read() for name, stored in to_openpi(params, arrays).items()}
    network.core.load_state_dict({k: v for k, v in tensors.items() if k not in unused}, strict=True)
    return network


@pytest.mark.parametrize(("model", "folder"), [("pi0", "public"), ("pi05", "run/7")])
@torch.no_grad()
def test_action_chunks_equal_openpis_own(model, folder):
    """The right wrist camera, which LIBERO does not have, is masked there and left out here."""
    network = load(golden(f"jax/{model}/{folder}"))
    expected = np.load(golden(f"jax/{model}/golden.npz"))
    cameras = [
        np.random.default_rng(n).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8) for n in (0, 1)
    ]
    pixels = (
        torch.from_numpy(np.stack(cameras, axis=1)).permute(0, 1, 4, 2, 3).float() / 255 * 2 - 1
    )
    num_image_tokens = len(cameras) * TOKENS_PER_CAMERA
    ids = torch.nn.functional.pad(
        torch.from_numpy(expected["tokens"]).long(), (num_image_tokens, 0)
    )
    is_valid = torch.nn.functional.pad(
        torch.from_numpy(expected["mask"]), (num_image_tokens, 0), value=True
    )
    cache = network.prefix(pixels, ids, is_valid)
    x, state = torch.from_numpy(expected["noise"]), torch.from_numpy(expected["state"])
    layout = network.layout(cache, 1, is_static=True)
    for condition in network.time_grid(tuple(1 - step / STEPS for step in range(STEPS))):
        x = x - network.denoise(cache, state, x, condition, layout) / STEPS
    torch.testing.assert_close(x, torch.from_numpy(expected["actions"]), atol=5e-5, rtol=0)
