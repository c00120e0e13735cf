"""pi0.5 from every layout: the same chunks, the writer's card; what its files do not say is asked for."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy, save_policy
from pi0.formats.export import export_folder
from pi0.formats.folder import Choices, read_folder
from pi0.model.architecture import build_whole_core
from pi0.model.gemma import AdaptiveNorm
from pi0.records import Sampling
from tests.formats.checkpoints import (
    HORIZON,
    STATS,
    VOCABULARY,
    edit_json,
    openpi_tensors,
    rename_tensors,
    write_lerobot,
    write_openpi,
    write_rlinf,
    write_tokenizer,
)
from tests.formats.jax.tree import jax_tree, write_orbax
from tests.policy_parts import make_observation, raises_one_line, small_card, small_config

WIDTH = 32
TASKS, SEEDS, STEPS = ("open the drawer", "put_the bowl\n"), (1, 2), 3
CHOSEN = {"execute_steps": 4, "horizon": HORIZON, "render_size": 40, "image_size": 28}
PROMPTS = {"prompt_state": "8", "max_prompt_tokens": 120}


@pytest.fixture(scope="module")
def model():
    card = small_card(horizon=HORIZON, action_dim=WIDTH, state_dim=WIDTH)
    torch.manual_seed(5)
    core = build_whole_core(small_config(card, VOCABULARY, is_pi05=True)).eval()
    for module in core.modules():
        if isinstance(module, AdaptiveNorm):
            torch.nn.init.normal_(module.dense.weight, std=0.3)
    return core


def as_pi05(folder, model, **config):
    """Make a folder that was written for a pi0 one of a pi0.5."""
    edit_json(folder / "config.json", **sizes(model), **config)
    return folder


def sizes(model):
    raw = model.config.to_dict()
    return {key: raw[key] for key in ("vlm_config", "dit_config")}


def write_jax(folder, model):
    write_tokenizer(folder)
    tensors = {name: tensor.numpy() for name, tensor in openpi_tensors(model).items()}
    tensors.pop("paligemma_with_expert.gemma_expert.lm_head.weight")
    words = tensors.pop("paligemma_with_expert.paligemma.lm_head.weight")
    tensors["paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"] = words
    write_orbax(folder / "params", jax_tree(tensors))
    stats = folder / "assets/physical-intelligence/libero/norm_stats.json"
    stats.parent.mkdir(parents=True)
    stats.write_text(json.dumps({"norm_stats": STATS}))
    return folder


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("pi05")
    openpi = {"action_dim": WIDTH, "action_horizon": HORIZON}
    lerobot = {"type": "pi05", "max_state_dim": WIDTH, "max_action_dim": WIDTH}
    modes = {"STATE": "QUANTILES", "ACTION": "QUANTILES"}
    folders = {
        "openpi": as_pi05(write_openpi(root / "openpi", model), model, **openpi),
        "rlinf": as_pi05(write_rlinf(root / "rlinf", model), model, **openpi),
        "lerobot": as_pi05(
            write_lerobot(root / "lerobot", model), model, **lerobot, normalization_mapping=modes
        ),
        "jax": write_jax(root / "jax", model),
    }
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        path = folders["lerobot"] / name
        path.write_text(path.read_text().replace("MEAN_STD", "QUANTILES"))
    return folders


def load(folder, **overrides):
    return load_policy(folder, protocol="openpi", overrides=CHOSEN | PROMPTS | overrides)


def chains(policy):
    rng = np.random.default_rng(0)
    observations = [make_observation(rng, size=40) for _ in TASKS]
    chunks = policy.act(observations, TASKS, SEEDS, Sampling(num_steps=STEPS))
    return np.stack([chunk.chain for chunk in chunks])


@pytest.fixture(scope="module")
def expected(folders):
    return chains(load(folders["openpi"]))


@pytest.mark.parametrize("layout", ["rlinf", "lerobot", "jax"])
def test_every_layout_gives_the_same_chunks(folders, expected, layout):
    policy = load(folders[layout])
    assert policy.card.layout == layout
    np.testing.assert_allclose(chains(policy), expected, atol=1e-6)


def test_the_own_layout_gives_the_same_bits(folders, expected, tmp_path):
    save_policy(load(folders["openpi"]), tmp_path)
    assert np.array_equal(chains(load_policy(tmp_path)), expected)


@pytest.mark.parametrize("target", ["openpi", "lerobot"])
def test_exports_are_read_back_with_the_same_bits(folders, expected, tmp_path, target):
    contents = read_folder(folders["jax"], Choices(overrides=CHOSEN | PROMPTS))
    export_folder(contents, tmp_path / "out", target)
    assert np.array_equal(chains(load(tmp_path / "out")), expected)
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert raw.get("type") == {"openpi": None, "lerobot": "pi05"}[target]
    before = tmp_path / "out" / "policy_preprocessor.json"
    if target == "lerobot":
        names = [step["registry_name"] for step in json.loads(before.read_text())["steps"]]
        state, tokens = "pi05_prepare_state_tokenizer_processor_step", "tokenizer_processor"
        assert names.index("normalizer_processor") < names.index(state) < names.index(tokens)


def test_transformers_cannot_hold_one(folders, tmp_path):
    contents = read_folder(folders["openpi"], Choices())
    with pytest.raises(
        ValueError, match=r"transformers has no pi0\.5; export with --format openpi"
    ):
        export_folder(contents, tmp_path / "out", "transformers")


class TestCard:
    def test_openpis_is_that_of_pi05_libero(self, folders):
        card = read_folder(folders["openpi"], Choices()).card
        found = (card.execute_steps, card.norm_mode, card.extra_delta, card.prompt_state)
        assert found == (5, "quantile", False, "none")
        assert card.max_prompt_tokens == 200

    def test_a_jax_folder_has_the_horizon_of_pi05_libero_and_says_what_is_assumed(self, folders):
        contents = read_folder(folders["jax"], Choices())
        assert (contents.card.horizon, contents.card.action_dim) == (10, WIDTH)
        assert any("horizon 10" in line for line in contents.assumed)

    def test_openpis_switch_puts_the_state_into_the_prompt(self, folders, tmp_path):
        folder = shutil.copytree(folders["openpi"], tmp_path / "policy")
        edit_json(folder / "config.json", discrete_state_input=True)
        assert read_folder(folder, Choices()).card.prompt_state == "8"

    @pytest.mark.parametrize("numbers", ["8", "32"])
    def test_lerobots_is_asked_for(self, folders, numbers):
        refused(folders["lerobot"], "prompt_state=32", "LeRobot before 0.5", "or 8")
        choices = Choices(overrides={"prompt_state": numbers})
        card = read_folder(folders["lerobot"], choices).card
        assert (card.prompt_state, card.norm_mode, card.horizon) == (numbers, "quantile", HORIZON)

    def test_numbers_in_the_prompt_change_the_chunks(self, folders, expected):
        wide = chains(load(folders["openpi"], prompt_state="32", max_prompt_tokens=220))
        without = chains(load(folders["openpi"], prompt_state="none"))
        for other in (wide, without):
            assert not np.allclose(other, expected, atol=1e-4)


def refused(folder, *parts, **choices):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_folder(folder, Choices(**choices))
    assert raises_one_line(caught.value, *parts), caught.value


class TestRefusals:
    def test_a_configuration_of_pi0(self, folders, tmp_path):
        folder = shutil.copytree(folders["lerobot"], tmp_path / "policy")
        edit_json(folder / "config.json", type="pi0")
        refused(folder, "config.json says type 'pi0'", "holds pi0.5")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("use_visual_memory", True),
            ("use_proprioceptive_memory", True),
            ("rtc_training_max_delay", 4),
        ],
    )
    def test_memory_and_training_for_real_time_chunks(self, folders, tmp_path, key, value):
        folder = shutil.copytree(folders["lerobot"], tmp_path / "policy")
        edit_json(folder / "config.json", **{key: value})
        refused(folder, key, "cannot be run here", overrides={"prompt_state": "8"})

    def test_statistics_without_quantiles(self, folders, tmp_path):
        folder = shutil.copytree(folders["openpi"], tmp_path / "policy")
        stats = folder / "assets/physical-intelligence/libero/norm_stats.json"
        without = {
            group: {name: values[name] for name in ("mean", "std")}
            for group, values in STATS.items()
        }
        stats.write_text(json.dumps({"norm_stats": without}))
        refused(folder, str(stats), "q01")

    def test_a_prompt_that_does_not_fit_with_the_state(self, folders):
        policy = load(folders["openpi"], max_prompt_tokens=24)
        with pytest.raises(ValueError, match=r"allowed are 24.*max_prompt_tokens"):
            chains(policy)

    def test_a_missing_half_of_its_parts(self, folders, tmp_path):
        folder = shutil.copytree(folders["openpi"], tmp_path / "policy")
        tensors = load_file(folder / "model.safetensors")
        save_file(
            {name: x for name, x in tensors.items() if "time_mlp" not in name},
            folder / "model.safetensors",
        )
        refused(folder, "4 of", "tensors are missing", "time_mlp_in.bias")


def test_its_names_may_have_the_prefixes_of_wrappers(folders, expected, tmp_path):
    folder = shutil.copytree(folders["openpi"], tmp_path / "policy")
    rename_tensors(folder, lambda name: f"module._orig_mod.{name}")
    assert np.array_equal(chains(load(folder)), expected)
