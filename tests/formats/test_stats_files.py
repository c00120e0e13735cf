"""Statistics are found wherever the projects put them, and a folder's own words fill the card."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.formats.folder import Choices, read_folder
from tests.formats.checkpoints import (
    STATS,
    write_json,
)

LIBERO_STATS = "assets/physical-intelligence/libero/norm_stats.json"


def read(folder, **choices):
    return read_folder(folder, Choices(**choices))


def assert_right(contents):
    for group, statistics in (("state", contents.stats.state), ("actions", contents.stats.actions)):
        for name in ("mean", "std"):
            np.testing.assert_allclose(statistics[name], STATS[group][name], rtol=1e-6)


@pytest.mark.parametrize(
    "location",
    [
        "norm_stats.json",
        "assets/libero/norm_stats.json",
        "assets/physical-intelligence/libero/norm_stats.json",
        "physical-intelligence/libero/norm_stats.json",
    ],
)
def test_openpis_file_is_found(openpi, location):
    content = (openpi / LIBERO_STATS).read_text()
    (openpi / LIBERO_STATS).unlink()
    (openpi / location).parent.mkdir(parents=True, exist_ok=True)
    (openpi / location).write_text(content)
    assert_right(read(openpi))


def test_copies_of_one_file_are_no_contradiction(openpi):
    shutil.copy(openpi / LIBERO_STATS, openpi / "norm_stats.json")
    assert_right(read(openpi))


def test_statistics_padded_to_the_width_of_the_network_are_cut(openpi):
    padded = {
        group: {name: values + [0.0] * (12 - len(values)) for name, values in statistics.items()}
        for group, statistics in STATS.items()
    }
    write_json(openpi / LIBERO_STATS, {"norm_stats": padded})
    assert_right(read(openpi))


def test_pipelines_of_lerobot_are_read(lerobot):
    assert_right(read(lerobot))


def test_statistics_inside_the_weights_are_read(lerobot):
    """LeRobot before 0.4."""
    for file in lerobot.glob("policy_*"):
        file.unlink()
    tensors = load_file(lerobot / "model.safetensors")
    for name in ("mean", "std"):
        state, actions = (torch.tensor(STATS[group][name]) for group in ("state", "actions"))
        tensors |= {
            f"normalize_inputs.buffer_observation_state.{name}": state,
            f"normalize_targets.buffer_action.{name}": actions,
            f"unnormalize_outputs.buffer_action.{name}": actions.clone(),
        }
    save_file(tensors, lerobot / "model.safetensors")
    assert_right(read(lerobot))


@pytest.mark.parametrize("name", ["stats.json", "processor_config.json", "x.safetensors", "data"])
def test_a_file_or_folder_of_any_origin_can_be_chosen(openpi, lerobot, tmp_path, name):
    path = tmp_path / name
    if name == "stats.json":
        groups = {"observation.state": STATS["state"], "action": STATS["actions"]}
        write_json(path, groups | {"timestamp": {"mean": [1.0]}})
    elif name == "processor_config.json":
        write_json(path, {f"{g}_{n}": STATS[g][n] for g in STATS for n in ("mean", "std")})
    elif name == "x.safetensors":
        shutil.copy(next(lerobot.glob("policy_preprocessor_step*")), path)
    else:
        write_json(path / "norm_stats.json", {"norm_stats": STATS})
    (openpi / LIBERO_STATS).write_text(json.dumps({"norm_stats": {"state": {}, "actions": {}}}))
    assert_right(read(openpi, norm_stats_path=path))


def test_a_file_without_statistics_is_refused(openpi, tmp_path):
    write_json(tmp_path / "other.json", {"a": 1})
    with pytest.raises(ValueError, match=r"other\.json holds no statistics; allowed: openpi's"):
        read(openpi, norm_stats_path=tmp_path / "other.json")


def test_lerobots_configuration_fills_the_card(lerobot):
    card = read(lerobot).card
    assert (card.horizon, card.execute_steps, card.denoise_steps) == (6, 4, 10)
    assert card.max_prompt_tokens == 24
    assert card.cameras == ("agentview", "robot0_eye_in_hand")  # the empty camera is left out
    assert (card.protocol, card.resize, card.extra_delta) == ("lerobot", "lerobot", False)
    assert card.render_size == 360


def test_openpis_configuration_fills_the_card(openpi):
    card = read(openpi).card
    assert (card.horizon, card.execute_steps, card.action_dim, card.state_dim) == (6, 5, 12, 12)
    assert (card.protocol, card.resize, card.extra_delta) == ("openpi", "openpi", True)


def test_overrides_win_over_files_and_files_over_the_protocol(lerobot):
    chosen = {"execute_steps": 2, "cameras": ("agentview",)}
    card = read(lerobot, protocol="openpi", overrides=chosen).card
    assert (card.execute_steps, card.cameras) == (2, ("agentview",))
    assert card.max_prompt_tokens == 24
    assert (card.protocol, card.resize, card.render_size) == ("openpi", "openpi", 256)


def test_relative_actions_of_lerobot_are_extra_deltas(lerobot):
    def make_relative(names):
        content = json.loads((lerobot / "config.json").read_text())
        content |= {
            "use_relative_actions": True,
            "relative_exclude_joints": ["gripper"],
            "action_feature_names": names,
        }
        write_json(lerobot / "config.json", content)

    make_relative(["x", "y", "z", "rx", "ry", "rz", "gripper"])
    assert read(lerobot).card.extra_delta
    make_relative(None)  # LeRobot would make the gripper relative too
    with pytest.raises(ValueError, match="exactly the gripper absolute"):
        read(lerobot)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("MEAN_STD", "z_score"), ("QUANTILES", "quantile")],
)
def test_the_pipelines_mode_wins_over_the_configurations(lerobot, theirs, ours):
    for direction in ("pre", "post"):
        path = lerobot / f"policy_{direction}processor.json"
        content = json.loads(path.read_text())
        content["steps"][1]["config"]["norm_map"] = {"STATE": theirs, "ACTION": theirs}
        write_json(path, content)
    assert read(lerobot).card.norm_mode == ours
