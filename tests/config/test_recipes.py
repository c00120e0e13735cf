"""The recipes for one GPU: each fits its card by the plan, and a small pi0 of a user's layout learns with it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.network.full_size_checkpoint import write_beside
from benchmarks.network.models import model_config
from pi0.formats.sizes import tensor_shapes
from pi0.formats.spellings import WRITTEN
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.build_policy import build_policy
from pi0.ript.config.command_line import find_shipped
from pi0.ript.config.load import load_config
from pi0.ript.diagnose.memory_plan import GIB, GPU_GIB, Place, make_plan
from pi0.ript.env.resources import Sizing
from pi0.ript.learner.update import update
from pi0.ript.scripts.parts.plan_page import read_checkpoint
from pi0.ript.scripts.plan import longest_episode, resolve_tasks
from tests.formats.checkpoints import reference_model, write_openpi
from tests.learner.samples import SAMPLING, draw_batch

CARDS = {"pi0_libero_24gb": "rtx4090", "pi0_libero_48gb": "a6000", "pi0_libero_80gb": "a100"}
# What CUDA, its libraries and holes between tensors take is in no plan.
SHARE = 0.9


def config_of(recipe: str, policy_path: Path, *flags: str):
    config_path = str(find_shipped(recipe))
    return load_config(["--config_path", config_path, "--policy_path", str(policy_path), *flags])


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 7 GB whose numbers are a hole in the file: the plan reads headers only."""
    folder = tmp_path_factory.mktemp("full") / "pi0"
    write_beside(folder, "full")
    header, end = {}, 0
    for name, shape in tensor_shapes(model_config("full")).items():
        start, end = end, end + 2 * math.prod(shape)
        known = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        header[WRITTEN["openpi"].name_of(name)] = known
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


@pytest.mark.parametrize(("recipe", "card"), CARDS.items())
def test_a_recipe_fits_its_card(recipe: str, card: str, full_size: Path):
    config = config_of(recipe, full_size)
    contents = read_checkpoint(config)
    simulators = Sizing(num_slots=16, num_workers=16, scenes_per_worker=1, reason="")

    plan = make_plan(
        config,
        contents.card,
        contents.config,
        simulators,
        longest_episode(config, contents.card, resolve_tasks(config)),
        Place(device_bytes=GPU_GIB[card] * GIB, host_bytes=64 * GIB),
    )

    on_device = sum(item.num_bytes for item in plan if item.memory == "device")
    assert recipe.endswith(f"_{GPU_GIB[card]}gb")
    assert on_device <= SHARE * GPU_GIB[card] * GIB


@pytest.mark.parametrize("recipe", CARDS)
def test_a_small_policy_learns_with_a_recipe(recipe: str, tmp_path: Path):
    config = config_of(recipe, write_openpi(tmp_path / "pi0", reference_model()))
    if config.policy.lora.rank:
        pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")
    policy = build_policy(config)
    engine, algo = build_engine(config, policy), replace(config.algo, num_minibatches=1)

    stats = update(
        policy,
        engine,
        draw_batch(policy, 2),
        build_objective(algo),
        algo,
        SAMPLING,
        1,
        has_frozen_prefix=config.policy.has_frozen_prefix,
    )

    assert stats is not None
    assert stats.num_optimizer_steps > 0
