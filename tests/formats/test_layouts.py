"""The same weights give the same action chunk from every layout, and as transformers computes it."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.checkpoint import load_policy, save_policy
from pi0.formats.evidence import decide_layout, gather
from pi0.formats.matching import match_tensors
from pi0.formats.sizes import is_published, read_sizes, tensor_shapes, with_card
from pi0.records import Sampling
from tests.formats.checkpoints import (
    HORIZON,
    WIDTH,
    WRITERS,
    openpi_name,
    reference_model,
    write_openpi,
)
from tests.policy_parts import make_observation

TASKS = ("open the drawer", "put the bowl on the plate", "open")
SEEDS = (1, 2, 3)
SAME = {"execute_steps": 4, "max_prompt_tokens": 24, "denoise_steps": 10}
STEPS = 5


@pytest.fixture(scope="module")
def model():
    return reference_model()


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {layout: write(root / layout, model) for layout, write in WRITERS.items()}


@pytest.fixture(scope="module")
def policies(folders):
    return {
        layout: load_policy(folder, protocol="openpi", overrides=SAME)
        for layout, folder in folders.items()
    }


def make_observations():
    rng = np.random.default_rng(0)
    return [make_observation(rng, size=40) for _ in TASKS]


def chains(policy):
    chunks = policy.act(make_observations(), TASKS, SEEDS, Sampling(num_steps=STEPS))
    return np.stack([chunk.chain for chunk in chunks])


@pytest.mark.parametrize("layout", WRITERS)
def test_layout_is_recognized(policies, layout):
    assert policies[layout].card.layout == layout


@pytest.mark.parametrize("layout", [layout for layout in WRITERS if layout != "openpi"])
def test_every_layout_gives_the_same_chunks(policies, layout):
    np.testing.assert_allclose(chains(policies[layout]), chains(policies["openpi"]), atol=1e-6)


@pytest.mark.parametrize("layout", ["openpi", "lerobot", "transformers", "transformers_saved"])
def test_chunks_equal_those_of_transformers_itself(model, policies, folders, layout):
    theirs = PI0ForConditionalGeneration.from_pretrained(folders[layout], config=model.config)
    policy = policies[layout]
    inputs = policy.encode(make_observations(), TASKS)
    chain = chains(policy)
    expected = theirs.eval().sample_actions(
        state=inputs.state,
        input_ids=inputs.token_ids,
        pixel_values=inputs.images.permute(0, 1, 4, 2, 3) / 255.0 * 2.0 - 1.0,
        noise=torch.from_numpy(chain[:, 0]),
        attention_mask=inputs.is_valid.long(),
        pixel_attention_mask=torch.ones(len(TASKS), 2, dtype=torch.bool),
        num_steps=STEPS,
    )
    assert chain.shape == (3, STEPS + 1, HORIZON, WIDTH)
    np.testing.assert_allclose(chain[:, -1], expected.detach().numpy(), atol=1e-5)


def test_both_names_of_the_word_embedding_may_be_there(model, tmp_path, policies):
    folder = write_openpi(tmp_path, model)
    tensors = load_file(folder / "model.safetensors")
    vlm = "paligemma_with_expert.paligemma."
    copy = tensors[f"{vlm}lm_head.weight"].clone()
    save_file(
        tensors | {f"{vlm}model.language_model.embed_tokens.weight": copy},
        folder / "model.safetensors",
    )
    policy = load_policy(folder, overrides=SAME)
    assert np.array_equal(chains(policy), chains(policies["openpi"]))


def test_the_dead_expert_embedding_may_be_absent(model, tmp_path, policies):
    folder = write_openpi(tmp_path, model)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("paligemma_with_expert.gemma_expert.lm_head.weight")
    save_file(tensors, folder / "model.safetensors")
    assert np.array_equal(chains(load_policy(folder, overrides=SAME)), chains(policies["openpi"]))


@pytest.mark.parametrize("layout", WRITERS)
def test_a_policy_of_any_layout_survives_our_own_folder(policies, layout, tmp_path):
    save_policy(policies[layout], tmp_path)
    again = load_policy(tmp_path)
    assert again.card == policies[layout].card
    assert np.array_equal(chains(again), chains(policies[layout]))


def test_half_precision_weights_choose_half_precision(model, tmp_path):
    folder = write_openpi(tmp_path, model)
    halved = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors")
    text = (folder / "config.json").read_text().replace('"precision": "float32", ', "")
    (folder / "config.json").write_text(text)
    assert load_policy(folder, overrides=SAME).card.dtype == "bfloat16"
    assert load_policy(folder, overrides=SAME | {"dtype": "float32"}).card.dtype == "float32"


def test_a_folder_of_the_published_size_is_accounted_for(tmp_path):
    """All 777 tensors of the real pi0, as a header whose data is a hole in the file."""
    config = PI0Config()
    shapes = tensor_shapes(config)
    # 3.5 billion, 263 million of which are the unused embedding of the expert
    assert sum(math.prod(shape) for shape in shapes.values()) == 3_501_372_176
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[openpi_name(name)] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    evidence = gather(tmp_path)
    assert decide_layout(evidence) == "openpi"
    found = match_tensors(evidence.weights, evidence.spelling, shapes, frozenset(shapes))
    assert found.keys() == shapes.keys()
    assert is_published(with_card(read_sizes(tmp_path, {}), load_policy("builtin").card))
