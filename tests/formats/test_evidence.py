"""Who wrote a folder is told by everything in it: every spelling gives the same bits and its writer's card."""

import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy, save_policy
from pi0.formats.folder import Choices, read_folder
from pi0.formats.lerobot.config import image_resolution
from pi0.formats.sizes import image_size, read_sizes
from tests.formats.checkpoints import (
    HORIZON,
    RLINF_WEIGHTS,
    STATS,
    WIDTH,
    WRITERS,
    edit_json,
    edit_step,
    name_before_4_52,
    reference_model,
    rename_tensors,
    write_json,
)

MODES = {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
SHARED = {
    "horizon": HORIZON, "action_dim": WIDTH, "state_dim": WIDTH, "image_size": 28, "dtype": "float32",
    "cameras": ("agentview", "robot0_eye_in_hand"), "render_quality": "exact", "rotate_180": True,
    "state_encoding": "axis_angle", "gripper": "libero", "denoise_steps": 10, "prompt_state": "none",
    "norm_stats_of": "checkpoint",
}  # fmt: skip
OPENPI = SHARED | {
    "protocol": "openpi", "execute_steps": 5, "render_size": 256, "resize": "openpi", "extra_delta": True,
    "norm_mode": "z_score", "norm_formula": "openpi", "prompt_format": "openpi", "max_prompt_tokens": 48,
}  # fmt: skip
TRANSFORMERS = SHARED | {
    "protocol": "lerobot", "execute_steps": HORIZON, "render_size": 360, "resize": "lerobot",
    "extra_delta": False, "norm_mode": "z_score", "norm_formula": "lerobot", "prompt_format": "lerobot",
    "max_prompt_tokens": 48,
}  # fmt: skip
# what config.json and the pipelines of the LeRobot folders below say, all of it unlike the presets
LEROBOT = TRANSFORMERS | {
    "layout": "lerobot", "execute_steps": 3, "denoise_steps": 7, "max_prompt_tokens": 20,
    "norm_mode": "quantile", "cameras": ("robot0_eye_in_hand",),
}  # fmt: skip
CARDS = {
    "openpi": OPENPI | {"layout": "openpi"},
    "rlinf": OPENPI | {"layout": "rlinf"},
    "lerobot": LEROBOT,
    "transformers": TRANSFORMERS | {"layout": "transformers"},
    "transformers_saved": TRANSFORMERS | {"layout": "transformers_saved"},
}


def same(name):
    return name


def without_model(name):
    return name.removeprefix("model.")


def in_ddp(name):
    return f"module.{name}"


def compiled_in_fsdp(name):
    """Torch.compile around FSDP around checkpointed layers, as names of such runs are."""
    layered = name.replace(".layers.0.", ".layers.0._checkpoint_wrapped_module.")
    return f"_orig_mod._fsdp_wrapped_module.{layered}"


def flat(name):
    """As transformers 5 has it: no module vision_model."""
    return name.replace("vision_tower.vision_model.", "vision_tower.")


SPELLINGS = {
    "openpi": (same, name_before_4_52, flat, in_ddp, compiled_in_fsdp),
    "rlinf": (same, name_before_4_52, in_ddp, compiled_in_fsdp),
    "lerobot": (
        same,
        without_model,
        flat,
        name_before_4_52,
        lambda name: without_model(name_before_4_52(name)),
        lambda name: in_ddp(without_model(name)),
    ),
    "transformers": (same, in_ddp, compiled_in_fsdp),
    "transformers_saved": (same,),
}


@pytest.fixture(scope="module")
def model():
    return reference_model()


@pytest.fixture(scope="module")
def originals(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    folders = {layout: write(root / layout, model) for layout, write in WRITERS.items()}
    wrist = {"observation.images.image2": {"type": "VISUAL", "shape": [3, 64, 64]}}
    edit_json(
        folders["lerobot"] / "config.json", n_action_steps=3, num_inference_steps=7, input_features=wrist
    )  # fmt: skip
    for direction, name in (("pre", "normalizer"), ("post", "unnormalizer")):
        edit_step(folders["lerobot"], direction, f"{name}_processor", norm_map=MODES)
    edit_step(folders["lerobot"], "pre", "pi0_new_line_processor")
    edit_step(folders["lerobot"], "pre", "tokenizer_processor", max_length=20, padding_side="right")
    return folders


@pytest.fixture
def copies(originals, tmp_path):
    """Return a function that copies the folder of a layout."""
    return lambda layout: shutil.copytree(originals[layout], tmp_path / layout, dirs_exist_ok=True)


def read(folder, **choices):
    return read_folder(folder, Choices(**choices))


def refusal(folder, error=ValueError, **choices) -> str:
    with pytest.raises(error) as caught:
        read(folder, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same_bits(contents, model):
    for name, stored in contents.tensors.items():
        assert torch.equal(stored.read(), model.state_dict()[name]), name
    assert len(contents.tensors) == len(model.state_dict())


@pytest.mark.parametrize("layout", WRITERS)
def test_every_spelling_of_a_layout_has_the_writers_card_and_the_same_bits(layout, copies, model):
    for respell in SPELLINGS[layout]:
        folder = copies(layout)
        if respell is not same:
            rename_tensors(folder, respell)
        contents = read(folder)
        assert_same_bits(contents, model)
        assert asdict(contents.card) == CARDS[layout]


def test_lerobot_before_0_4_is_read_with_its_own_settings(copies, model):
    """Statistics among the tensors, no pipelines, other names of keys, names before 4.52."""
    folder = copies("lerobot")
    for file in folder.glob("policy_*"):
        file.unlink()
    edit_json(
        folder / "config.json", num_inference_steps=..., dtype=..., use_relative_actions=...,
        num_steps=7, tokenizer_max_length=20, resize_imgs_with_padding=[28, 28], adapt_to_pi_aloha=False,
    )  # fmt: skip
    rename_tensors(folder, name_before_4_52)
    statistics = {
        f"{prefix}.{name}": torch.tensor(STATS[group][name])
        for group, prefix in (
            ("state", "normalize_inputs.buffer_observation_state"),
            ("actions", "unnormalize_outputs.buffer_action"),
        )
        for name in ("mean", "std")
    }
    path = folder / "model.safetensors"
    save_file(load_file(path) | statistics, path)
    contents = read(folder)
    assert_same_bits(contents, model)
    assert asdict(contents.card) == LEROBOT | {"norm_mode": "z_score"}


def test_heads_that_no_action_depends_on_are_left_out_and_named(copies, model):
    folder = copies("rlinf")
    heads = ("value_head.mlp.0.bias", "q_head.net.0.bias", "noise_head.w", "critic_state_encoder.b")
    tensors = torch.load(folder / RLINF_WEIGHTS)
    torch.save(tensors | {name: torch.zeros(3) for name in heads}, folder / RLINF_WEIGHTS)
    contents = read(folder)
    assert_same_bits(contents, model)
    said = "\n".join(contents.not_followed)
    for head in heads:
        assert f"{head.partition('.')[0]}: RLinf's" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dsrl_action_noise_net.mean_layer.weight", "DSRL"),
        ("rlt_module.encoder.weight", "RL tokens"),
        (
            "paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.lora_A.weight",
            "not merged",
        ),
        ("optimizer_net.weight", "1 tensors are unknown, first optimizer_net.weight"),
    ],
)
def test_what_changes_the_actions_is_never_left_out(copies, name, words):
    folder = copies("openpi")
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(2)}, path)
    message = refusal(folder)
    assert words in message
    assert name in message


def test_a_prefix_that_nobody_knows_is_named(copies):
    folder = copies("openpi")
    rename_tensors(folder, lambda name: f"agent.policy.{name}")
    assert "have the prefix 'agent.policy.'" in refusal(folder)


def test_one_tensor_with_and_without_a_wrapper_is_refused(copies):
    folder = copies("openpi")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"module.state_proj.bias": tensors["state_proj.bias"].clone()}, path)
    message = refusal(folder)
    assert "module.state_proj.bias and state_proj.bias are one tensor" in message


def test_names_of_two_versions_in_one_file_are_refused(copies):
    folder = copies("openpi")
    old = "vision_tower"
    rename_tensors(folder, lambda name: name_before_4_52(name) if old in name else name)
    message = refusal(folder)
    assert "names of transformers before 4.52" in message
    assert "openpi's names" in message


CONTRADICTIONS = {
    "openpi's names, LeRobot's and openpi's keys": (
        "openpi",
        lambda folder: edit_json(folder / "config.json", type="pi0", n_action_steps=4),
        ("key 'type'", "key 'action_horizon'"),
    ),
    "LeRobot's names, openpi's configuration": (
        "lerobot",
        lambda folder: write_json(folder / "config.json", {"action_horizon": 6, "precision": "float32"}),
        ("LeRobot's prefix 'model.'", "of openpi (key 'action_horizon')"),
    ),
    "openpi's configuration, LeRobot's pipelines": (
        "openpi",
        lambda folder: write_json(folder / "policy_preprocessor.json", {"steps": []})
        or write_json(folder / "policy_postprocessor.json", {"steps": []}),
        ("policy_preprocessor.json is of LeRobot", "of openpi (key 'action_horizon')"),
    ),
    "RLinf's file, LeRobot's configuration": (
        "rlinf",
        lambda folder: write_json(folder / "config.json", {"type": "pi0"}),
        ("only RLinf writes full_weights.pt", "of LeRobot (key 'type')"),
    ),
    "transformers' names, a run of LeRobot": (
        "transformers",
        lambda folder: write_json(folder / "train_config.json", {}),
        ("names of transformers", "train_config.json is of LeRobot"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_files_that_disagree_are_refused_with_both_sides_named(case, copies):
    layout, change, sides = CONTRADICTIONS[case]
    folder = copies(layout)
    change(folder)
    message = refusal(folder)
    assert "its files disagree on who wrote it" in message
    for side in sides:
        assert side in message


def test_our_own_card_beside_a_foreign_configuration_is_refused(tmp_path, copies):
    save_policy(load_policy("builtin"), tmp_path / "own")
    shutil.copy(copies("lerobot") / "config.json", tmp_path / "own/config.json")
    message = refusal(tmp_path / "own")
    assert "policy.json is of pi0-ript, but config.json is not" in message


def test_a_card_from_before_the_gripper_had_a_key_is_read(tmp_path):
    policy = load_policy("builtin")
    save_policy(policy, tmp_path)
    edit_json(tmp_path / "policy.json", gripper=...)
    assert load_policy(tmp_path).card == policy.card


def test_converted_weights_beside_those_of_jax_are_read(copies, model):
    folder = copies("openpi")
    write_json(folder / "params/_METADATA", {})
    contents = read(folder)
    assert_same_bits(contents, model)
    assert any("weights of JAX" in line for line in contents.not_followed)


def test_a_processor_that_contradicts_the_configuration_is_refused(copies):
    folder = copies("transformers")
    edit_json(folder / "processor_config.json", chunk_size=HORIZON, max_length=48)
    assert "processor_config.json: max_length 48" in read(folder).not_followed
    edit_json(folder / "processor_config.json", chunk_size=9)
    message = refusal(folder)
    assert "config.json says chunk_size 6 but processor_config.json says chunk_size 9" in message


@pytest.mark.parametrize("layout", ["lerobot", "transformers"])
def test_a_writer_that_always_leaves_a_configuration_is_not_guessed_at(layout, copies):
    folder = copies(layout)
    (folder / "config.json").unlink()
    message = refusal(folder, FileNotFoundError)
    assert "config.json does not exist" in message
    assert layout in message


def test_each_camera_is_given_once_in_the_order_of_the_file(copies):
    folder = copies("lerobot")
    image = {"type": "VISUAL", "shape": [3, 224, 224]}
    names = ("left_wrist_0_rgb", "base_0_rgb", "right_wrist_0_rgb", "image2", "image")
    edit_json(
        folder / "config.json",
        input_features={f"observation.images.{name}": image for name in names},
    )
    assert read(folder).card.cameras == ("robot0_eye_in_hand", "agentview")
    with pytest.raises(ValueError, match="names each camera once"):
        read(folder, overrides={"cameras": ("agentview", "agentview")})


def test_renamed_images_are_followed(copies):
    """The pipeline feeds the wrist camera of the data into the first slot of the network."""
    folder = copies("lerobot")
    image = {"type": "VISUAL", "shape": [3, 224, 224]}
    edit_json(folder / "config.json", input_features={"observation.images.base_0_rgb": image})
    renamed = {"observation.images.wrist_image": "observation.images.base_0_rgb"}
    edit_step(folder, "pre", "rename_observations_processor", rename_map=renamed)
    assert read(folder).card.cameras == ("robot0_eye_in_hand",)


def test_resolution_of_lerobot_sets_the_images_of_the_network(copies):
    folder = copies("lerobot")
    edit_json(folder / "config.json", image_resolution=[28, 28])
    assert read(folder).card.image_size == 28
    edit_json(folder / "config.json", image_resolution=[42, 42])
    message = refusal(folder)
    assert "is 42 but vlm_config" in message
    assert "image_size is 28" in message
    published = read_sizes(folder, {}, image_resolution(folder, {"image_resolution": [448, 448]}))
    assert image_size(published) == 448
    with pytest.raises(ValueError, match="two equal numbers of pixels"):
        image_resolution(folder, {"image_resolution": [224, 320]})
