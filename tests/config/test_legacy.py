"""Configuration files of the earlier system load, and a warning says what became of every key."""

import copy
import difflib
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import decode_config, known_keys
from pi0.ript.config.legacy import LEGACY, MEANINGLESS_NAMES, NO_EFFECT, RENAMED
from pi0.ript.config.load import load_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.translate import LEGACY_SECTIONS, translate
from pi0.ript.config.yaml_text import parse_yaml

EARLIER = sorted((Path(__file__).parent / "earlier").glob("*.yaml"))
DATA = {path.stem: parse_yaml(path.read_text(), MEANINGLESS_NAMES) for path in EARLIER}
NATIVE = known_keys(TrainConfig)
BUILTIN = ["--policy_path", "builtin", "--output_dir", "outputs"]


def keys_in(data, prefix=""):
    for key, value in data.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_in(value, f"{prefix}{key}.")


def load(name, *flags):
    path = Path(__file__).parent / "earlier" / f"{name}.yaml"
    return load_config(["--config_path", str(path), *flags])


def test_there_are_fourteen_earlier_configurations():
    assert len(EARLIER) == 14


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_earlier_configuration_loads_with_exactly_these_notices(path):
    translation = translate(DATA[path.stem], NATIVE)

    assert translation.notices == tuple(path.with_suffix(".txt").read_text().splitlines())
    decode_config(TrainConfig, translation.data)


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_every_key_is_native_or_named_in_a_notice(path):
    text = " ".join(translate(DATA[path.stem], NATIVE).notices)
    words = set(text.replace(",", " ").replace(";", " ").replace("=", " ").split())
    for key in keys_in(DATA[path.stem]):
        assert key in NATIVE or key in LEGACY_SECTIONS or key in words, key


def test_notices_are_logged_as_warnings(caplog):
    logging.getLogger("pi0").propagate = True
    load("stage11_ript_vla_improved")
    assert "configuration: logging.log_freq has no effect: every step is logged" in caplog.messages


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("debug_train_stage9", "task.task_name", 0),  # 0 is a task, not "none"
        ("debug_train_stage9", "video.save", True),
        ("debug_train_stage9", "video.dir", "rollout_videos_stage9"),
        ("debug_train_stage9", "algo.max_sampling_attempts", 10),
        ("debug_train_stage9", "training.optimizer.beta2", 0.999),
        ("distributed_train_pi0", "task.task_names_to_use", ()),  # null was "all"
        ("distributed_train_pi0", "algo.lr", 2e-5),
        ("dual_gpu_train", "policy.overrides.dtype", "bfloat16"),
        ("dual_gpu_train", "algo.enable_dynamic_sampling", True),  # the native key wins
        ("debug_distributed_train", "policy.overrides.dtype", None),
        ("multi_task_distributed", "task.task_names_to_use", tuple(range(9))),
        ("strict_ript_distributed", "algo.num_epochs", 1),
        ("strict_ript_distributed", "task.benchmark_name", "libero_spatial"),
        ("stage11_ript_vla", "task.max_episode_length", None),
        ("stage11_ript_vla", "algo.objective", "cfg"),
        ("stage11_ript_vla", "algo.cfg.guidance", 1.25),
        ("stage11_ript_vla", "algo.cfg.uncond_weight", 0.1),
        ("stage11_ript_vla", "algo.cfg.windowing_mode", "slide"),
        ("stage11_enhanced_example", "algo.objective", "flow_sde"),
        ("stage11_enhanced_example", "algo.cfg.guidance", 1.0),
        ("debug_train_pi0", "algo.rloo_batch_size", 1),
        ("stage11_ript_vla", "features.use_ript_vla_runner", False),
        ("debug_train_ript_vla", "features.use_ript_vla_runner", True),
        ("libero10_eval", "evaluation.save_videos", 1),
        ("train_pi0_cfg_rl_debug", "policy.gradient_checkpointing", True),
    ],
)
def test_meaning_survives(name, key, value):
    config = load(name, *BUILTIN)
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value
    assert type(config) is type(value)


def test_placeholders_are_refused_until_they_are_filled_in():
    with pytest.raises(ConfigError) as caught:
        load("train_pi0_cfg_rl_debug")
    assert str(caught.value) == (
        "policy_path holds a placeholder, '{pi0_model_path}'; "
        "give a checkpoint folder or --policy_path builtin"
    )
    with pytest.raises(ConfigError, match=r"output_dir holds a placeholder.*--output_dir outputs"):
        load("train_pi0_cfg_rl_debug", "--policy_path", "builtin")


def test_another_policy_does_not_inherit_the_statistics_of_the_file(caplog):
    logging.getLogger("pi0").propagate = True
    config = load("debug_train_ript_vla", "--policy_path", "builtin")
    assert (config.policy_path, config.norm_stats_path) == ("builtin", None)
    assert any("norm_stats_path=/path/to/" in line for line in caplog.messages)

    own = load("debug_train_ript_vla", "--policy_path", "x", "--norm_stats_path", "y.json")
    assert own.norm_stats_path == "y.json"
    assert load("debug_train_ript_vla").norm_stats_path.startswith("/path/to/")


def test_earlier_keys_may_be_given_on_the_command_line():
    config = load(
        "debug_train_pi0", "--override", "features.save_video=true", "--algo.num_ppo_epochs", "3"
    )
    assert config.video.save
    assert config.algo.num_epochs == 1  # the file gives the native key, which wins


@pytest.mark.parametrize("algo", [{}, {"enable_dynamic_sampling": True}])
def test_one_rollout_per_state_switches_rejection_off_and_says_so(algo):
    translation = translate(
        {"algo": {"rloo_batch_size": 1, **algo}, "evaluation": {"rollouts_per_task": 0}}, NATIVE
    )
    config = decode_config(TrainConfig, translation.data)
    assert (config.algo.rloo_batch_size, config.algo.enable_dynamic_sampling) == (1, False)
    assert len(translation.notices) == 1
    assert translation.notices[0].startswith("algo.rloo_batch_size is 1")


def test_notice_quotes_both_values_where_both_keys_are_given():
    both = {
        "algo": {"num_epochs": 2, "num_ppo_epochs": 5},
        "evaluation": {"rollouts_per_task": 0},
    }
    translation = translate(both, NATIVE)
    assert translation.data == {"algo": {"num_epochs": 2}, "evaluation": {"rollouts_per_task": 0}}
    assert translation.notices == (
        "algo.num_ppo_epochs is called algo.num_epochs; algo.num_ppo_epochs=5 is ignored, "
        "algo.num_epochs=2 is used",
    )


def test_todays_configuration_needs_no_notice():
    for path in (Path(__file__).parents[2] / "pi0/ript/config").glob("*.yaml"):
        assert translate(parse_yaml(path.read_text()), NATIVE).notices == ()


def test_no_key_is_both_native_and_earlier():
    assert set(LEGACY) & set(NATIVE) == set(), "delete the row in pi0/ript/config/legacy.py"
    assert {row.target for row in RENAMED} <= set(NATIVE)
    assert len(LEGACY) == len(RENAMED) + len(NO_EFFECT)
    assert all(row.advice for row in NO_EFFECT)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("training: {optimizer: {type: SGD}}", ["training.optimizer.type", "SGD", "AdamW"]),
        ("training: {use_mixed_precision: half}", ["training.use_mixed_precision", "half"]),
        ("performance: 3", ["performance", "section", "3"]),
        ("performance: {num_wokers: 3}", ["performance.num_wokers", "performance.num_workers"]),
        (
            "features: {dynamic_sampling: {p_mim: 0.1}}",
            ["features.dynamic_sampling.p_mim", "p_min"],
        ),
    ],
)
def test_wrong_use_of_an_earlier_key_is_one_line(tmp_path, text, parts):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(["--config_path", str(path)])
    assert "\n" not in str(caught.value)
    assert [part for part in parts if part not in str(caught.value)] == []


@st.composite
def misspellings(draw):
    """Draw a key of an earlier file with one letter dropped, doubled, changed or swapped."""
    name = draw(st.sampled_from(sorted(DATA)))
    dotted = draw(st.sampled_from(list(keys_in(DATA[name]))))
    key = dotted.split(".")[-1]
    i = draw(st.integers(0, len(key) - 1))
    edits = [key[:i] + key[i + 1 :], key[:i] + key[i] + key[i:], key[:i] + "x" + key[i + 1 :]]
    if i + 1 < len(key):
        edits.append(key[:i] + key[i + 1] + key[i] + key[i + 2 :])
    return name, dotted, draw(st.sampled_from(edits).filter(lambda text: text and text != key))


@settings(max_examples=400, deadline=None)
@given(misspellings())
def test_single_misspelt_key_is_named_with_the_nearest_key(misspelling):
    name, dotted, wrong = misspelling
    *sections, key = dotted.split(".")
    data = copy.deepcopy(DATA[name])
    owner = data
    for section in sections:
        owner = owner[section]
    owner[wrong] = owner.pop(key)

    with pytest.raises(ConfigError) as caught:
        translate(data, NATIVE)

    wrong_dotted = ".".join([*sections, wrong])
    message = str(caught.value)
    assert message.startswith(f"unknown key {wrong_dotted!r}; did you mean ")
    suggestion = message.split("mean ")[1].strip("'?")
    likeness = [
        difflib.SequenceMatcher(None, wrong_dotted, near).ratio() for near in (suggestion, dotted)
    ]
    assert suggestion == dotted or likeness[0] >= 0.9 * likeness[1]
