"""What is exported reads back bit for bit, in the names and files that the target's loader requires."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import PI0ForConditionalGeneration

from pi0.checkpoint import load_policy, save_policy
from pi0.formats.export import export_folder, not_stored
from pi0.formats.folder import Choices, read_folder
from pi0.formats.weight_files import TensorSource, write_safetensors
from tests.formats.checkpoints import (
    STATS,
    WRITERS,
    openpi_tensors,
    reference_model,
    write_lerobot,
    write_openpi,
    write_transformers_saved,
)
from tests.policy_parts import small_policy

TARGETS = ("openpi", "lerobot", "transformers")
EMBEDDING = "paligemma_with_expert.paligemma.lm_head.weight"
UNUSED = "paligemma_with_expert.gemma_expert.lm_head.weight"


@pytest.fixture(scope="module")
def model():
    return reference_model()


@pytest.fixture(scope="module")
def sources(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    return {layout: write(root / layout, model) for layout, write in WRITERS.items()}


def convert(source, destination, target, **choices):
    export_folder(read_folder(source, Choices(**choices)), destination, target)
    return destination


def weights(folder):
    tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("layout", WRITERS)
def test_any_layout_becomes_openpis_names_bit_for_bit(sources, layout, model, tmp_path):
    folder = convert(sources[layout], tmp_path / "out", "openpi")
    assert_same(weights(folder), openpi_tensors(model))


@pytest.mark.parametrize(
    ("target", "write"),
    [
        ("openpi", write_openpi),
        ("lerobot", write_lerobot),
        ("transformers", write_transformers_saved),
    ],
)
def test_export_has_the_tensors_that_the_project_itself_writes(
    target, write, sources, model, tmp_path
):
    original = write(tmp_path / "original", model)
    folder = convert(sources["openpi"], tmp_path / "out", target)
    assert_same(weights(folder), weights(original))


@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back_changes_no_bit_and_no_statistics(target, sources, model, tmp_path):
    there = convert(sources["openpi"], tmp_path / "there", target)
    choices = {"protocol": "openpi", "overrides": {"extra_delta": True}}
    back = convert(there, tmp_path / "back", "openpi", **choices)
    assert_same(weights(back), openpi_tensors(model))
    stats = json.loads(next(back.glob("assets/*/*/norm_stats.json")).read_text())["norm_stats"]
    for group, statistics in stats.items():
        for name, values in statistics.items():
            np.testing.assert_allclose(values, STATS[group][name], rtol=1e-6)


def test_precision_of_every_tensor_is_kept(model, tmp_path):
    source = write_openpi(tmp_path / "source", model.to(torch.bfloat16))
    model.float()
    folder = convert(source, tmp_path / "out", "lerobot")
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.bfloat16}


def test_transformers_loads_its_export_with_nothing_missing_or_left_over(sources, tmp_path):
    folder = convert(sources["openpi"], tmp_path / "out", "transformers")
    _, report = PI0ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]


def test_lerobot_export_has_the_files_and_features_of_its_loader(sources, tmp_path):
    folder = convert(sources["openpi"], tmp_path / "out", "lerobot")
    config = json.loads((folder / "config.json").read_text())
    assert config["type"] == "pi0"
    assert config["n_action_steps"] <= config["chunk_size"]
    # openpi's LIBERO policy acts relative to the state; the gripper stays absolute
    assert config["use_relative_actions"] is True
    assert config["action_feature_names"][6] == "gripper"
    before = json.loads((folder / "policy_preprocessor.json").read_text())["steps"]
    assert [step["registry_name"] for step in before] == [
        "rename_observations_processor",
        "to_batch_processor",
        "pi0_new_line_processor",
        "tokenizer_processor",
        "device_processor",
        "relative_actions_processor",
        "normalizer_processor",
    ]
    state = "policy_preprocessor_step_6_normalizer_processor.safetensors"
    assert before[6]["state_file"] == state
    assert load_file(folder / state)["action.std"].shape == (7,)
    after = json.loads((folder / "policy_postprocessor.json").read_text())["steps"]
    assert [step["registry_name"] for step in after] == [
        "unnormalizer_processor",
        "absolute_actions_processor",
        "device_processor",
    ]


def test_a_lerobot_policy_without_relative_actions_needs_no_new_keys(sources, tmp_path):
    folder = convert(sources["lerobot"], tmp_path / "out", "lerobot")
    assert "use_relative_actions" not in json.loads((folder / "config.json").read_text())
    again, first = (read_folder(f, Choices()) for f in (folder, sources["lerobot"]))
    assert again.card == first.card
    assert again.stats.digest == first.stats.digest


def test_a_trained_policy_of_ours_can_leave(tmp_path):
    policy = small_policy(action_dim=12)
    save_policy(policy, tmp_path / "ours")
    # the small tokenizer has fewer tokens than the network has embeddings
    folder = convert(tmp_path / "ours", tmp_path / "out", "openpi")
    found = weights(folder)
    assert torch.equal(
        found[EMBEDDING], policy.network.core.model.vlm.language_model.embed_tokens.weight
    )
    assert not found[UNUSED].any()


@pytest.mark.parametrize("target", ["lerobot", "transformers"])
def test_the_denoise_steps_that_it_was_trained_with_go_along(sources, tmp_path, target):
    source = read_folder(sources["openpi"], Choices())
    contents = replace(source, card=replace(source.card, denoise_steps=4))
    export_folder(contents, tmp_path / "out", target)
    assert read_folder(tmp_path / "out", Choices()).card.denoise_steps == 4
    assert "openpi: call sample_actions with num_steps=4" in not_stored(contents.card, "openpi")


def test_what_the_target_cannot_hold_is_said(sources):
    card = read_folder(sources["openpi"], Choices()).card
    assert not_stored(card, "openpi") == [
        "openpi: use a training configuration with extra_delta_transform=True, action_horizon=6"
    ]
    assert "resize is openpi here, lerobot uses lerobot" in not_stored(card, "lerobot")


@pytest.mark.parametrize(
    ("target", "changes", "complaint"),
    [
        ("openpi", {"norm_mode": "quantile"}, "export with --format lerobot"),
        ("transformers", {"norm_mode": "quantile"}, "z-scores only"),
        ("lerobot", {"cameras": ("frontview",)}, "no camera 'frontview'"),
    ],
)
def test_a_policy_that_the_target_cannot_express_is_refused(
    sources, tmp_path, target, changes, complaint
):
    with pytest.raises(ValueError, match=complaint):
        convert(sources["openpi"], tmp_path / "out", target, overrides=changes)
    assert not list(tmp_path.iterdir())


def test_the_embedded_policy_with_its_own_state_is_refused(tmp_path):
    save_policy(load_policy("builtin"), tmp_path / "ours")
    with pytest.raises(ValueError, match="rotation6d; it can only be used here"):
        convert(tmp_path / "ours", tmp_path / "out", "lerobot")


def test_an_existing_destination_is_left_alone(sources, tmp_path):
    with pytest.raises(FileExistsError, match="exists"):
        convert(sources["openpi"], tmp_path, "openpi")
    assert not list(tmp_path.iterdir())


def test_written_file_reads_back_whatever_the_types(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.randn(3, 5, generator=generator),
        "b": torch.randn(7, generator=generator).bfloat16(),
        "c": torch.randn(2, 1, 3, generator=generator).half(),
    }
    write_safetensors(
        tmp_path / "x.safetensors",
        {
            name: TensorSource(shape=tuple(t.shape), dtype=t.dtype, read=lambda t=t: t)
            for name, t in tensors.items()
        },
    )
    assert_same(load_file(tmp_path / "x.safetensors"), tensors)
