"""No key of a foreign file is dropped without a word: it changes the card or is named."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi0.checkpoint import load_policy
from pi0.description import describe_policy, description_text
from pi0.formats.folder import Choices, read_folder
from tests.formats.checkpoints import (
    edit_json,
    edit_step,
    reference_model,
    write_lerobot,
    write_openpi,
)

IMAGE = {"type": "VISUAL", "shape": [3, 480, 640]}
STATE = {"type": "STATE", "shape": [8]}
# Every key of LeRobot's configurations of pi0, old and new -> another value that LeRobot takes.
LEROBOT: dict[str, tuple[object, ...]] = {
    "chunk_size": (5, 4),
    "n_action_steps": (1, 6),
    "num_inference_steps": (5, 20),
    "tokenizer_max_length": (48, 64),
    "dtype": ("bfloat16",),
    "normalization_mapping": (
        {"STATE": "QUANTILES", "ACTION": "QUANTILES"},
        {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    ),
    "input_features": (
        {"observation.images.image": IMAGE, "observation.state": STATE},
        {
            "observation.images.image2": IMAGE,
            "observation.state": STATE,
            "observation.force": STATE,
        },
    ),
    "output_features": ({"action": {"type": "ACTION", "shape": [7]}, "done": STATE},),
    "empty_cameras": (0, 2),
    "min_period": (0.01,),
    "max_period": (2.0,),
    "n_obs_steps": (2,),
    "proj_width": (512,),
    "use_cache": (False,),
    "attention_implementation": ("fa2", "flex"),
    "adapt_to_pi_aloha": (True,),
    "use_delta_joint_actions_aloha": (True,),
    "use_relative_actions": (True,),
    "relative_exclude_joints": (["wrist"],),
    "action_feature_names": (["x", "y", "z", "a", "b", "c", "gripper"],),
    "image_resolution": ([448, 448],),
    "resize_imgs_with_padding": ([448, 448],),
    "max_action_dim": (14,),
    "max_state_dim": (14,),
    "paligemma_variant": ("gemma_300m",),
    "action_expert_variant": ("gemma_2b",),
    "rtc_config": ({"enabled": True},),
    "compile_model": (True,),
    "compile_mode": ("default",),
    "device": ("cuda", "mps"),
    "use_amp": (True,),
    "use_peft": (True,),
    "gradient_checkpointing": (True,),
    "freeze_vision_encoder": (True,),
    "train_expert_only": (True,),
    "train_state_proj": (False,),
    "time_sampling_beta_alpha": (1.0,),
    "time_sampling_offset": (0.01,),
    "optimizer_lr": (1e-4, 1e-5),
    "optimizer_betas": ([0.9, 0.99],),
    "scheduler_warmup_steps": (10,),
    "pretrained_path": ("lerobot/pi0_base",),
    "pretrained_revision": ("main",),
    "push_to_hub": (True,),
    "repo_id": ("me/pi0",),
    "private": (True,),
    "tags": (["libero"],),
    "license": ("mit",),
    "a_key_of_tomorrow": (1, None, [1, 2]),
}
OPENPI: dict[str, tuple[object, ...]] = {
    "action_horizon": (5, 10),
    "action_dim": (14,),
    "precision": ("bfloat16",),
    "max_token_len": (32, 64),
    "paligemma_variant": ("gemma_300m",),
    "action_expert_variant": ("gemma_2b",),
    "dtype": ("float32", "bfloat16"),
    "pi05": (True,),
    "discrete_state_input": (True,),
    "pytorch_compile_mode": ("max-autotune",),
    "a_key_of_tomorrow": (1, None, [1, 2]),
}
WRITERS = {"lerobot": (write_lerobot, LEROBOT), "openpi": (write_openpi, OPENPI)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, model = tmp_path_factory.mktemp("folders"), reference_model()
    return {layout: write(root / layout, model) for layout, (write, _) in WRITERS.items()}


def outcome(folder) -> tuple[object, str]:
    """Return what a folder means (card and sizes), and everything that is said about it."""
    try:
        contents = read_folder(folder, Choices())
    except ValueError as error:
        return None, str(error)
    sizes = (contents.config.min_period, contents.config.max_period)
    return (contents.card, sizes), "\n".join(contents.not_followed)


def assert_noticed(folder, key, value):
    """The card changes, or the key is named in what is not followed or in a refusal."""
    path = folder / "config.json"
    original = path.read_text()
    before, _ = outcome(folder)
    edit_json(path, **{key: value})
    try:
        after, said = outcome(folder)
    finally:
        path.write_text(original)
    assert after is None or after != before or key in said or _new_feature(value) in said, said
    assert after is not None or key in said or "config.json asks for" in said, said


def _new_feature(value: object) -> str:
    """Features are named one by one."""
    return next(reversed(value)) if isinstance(value, dict) else "no such text"


@pytest.mark.parametrize("layout", WRITERS)
def test_every_key_with_another_value_changes_the_card_or_is_named(folders, layout):
    for key, values in WRITERS[layout][1].items():
        for value in values:
            assert_noticed(folders[layout], key, value)


KEYS = st.text(st.characters(codec="ascii", categories=("Ll",)), min_size=3, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text("abc_.", max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("layout", WRITERS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=KEYS, value=VALUES)
def test_a_key_that_nobody_knows_is_named(folders, layout, key, value):
    assert_noticed(folders[layout], key, value)


def test_the_same_value_says_nothing_new(folders):
    first, second = (outcome(folders["openpi"]) for _ in range(2))
    assert first == second
    assert first[1] == ""


def test_steps_of_pipelines_without_effect_are_named(folders, tmp_path):
    folder = shutil.copytree(folders["lerobot"], tmp_path / "lerobot")
    edit_step(folder, "pre", "color_jitter_processor", strength=0.1)
    edit_step(folder, "pre", "normalizer_processor", eps=1e-6)
    edit_step(folder, "pre", "tokenizer_processor", padding_side="left", max_length=24)
    edit_step(folder, "post", "action_smoothing_processor")
    _, said = outcome(folder)
    assert "step 'color_jitter_processor' is unknown here and not done" in said
    assert "normalizer_processor.eps 1e-06" in said
    assert 'tokenizer_processor.padding_side "left"' in said
    assert "no pi0_new_line_processor" in said
    assert "policy_postprocessor.json: step 'action_smoothing_processor'" in said


def test_what_the_pipelines_replace_in_the_configuration_is_named(folders, tmp_path):
    folder = shutil.copytree(folders["lerobot"], tmp_path / "lerobot")
    edit_json(
        folder / "config.json", normalization_mapping={"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
    )
    (card, _), said = outcome(folder)
    assert card.norm_mode == "z_score"
    assert "normalization_mapping" in said
    assert "policy_preprocessor.json counts: norm_mode z_score" in said


def test_it_is_printed_once_below_the_card(folders, tmp_path):
    folder = shutil.copytree(folders["lerobot"], tmp_path / "lerobot")
    edit_json(
        folder / "config.json", a_key_of_tomorrow=3, optimizer_lr=1e-5, scheduler_decay_steps=9
    )
    text = description_text(describe_policy(load_policy(folder)))
    assert text.count("not followed: config.json: a_key_of_tomorrow 3\n") == 1
    assert "config.json, for training: optimizer_lr 1e-05, scheduler_decay_steps 9\n" in text
