"""Settings, statistics and tokenizers that do not belong to the weights are refused in one line with a remedy."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from pi0.ript.scripts.exits import is_user_error
from pi0.tokenizer import build_tiny_tokenizer
from tests.formats.checkpoints import (
    STATS,
    write_json,
)
from tests.formats.refusing import edit_json, refusal

LIBERO_STATS = "assets/physical-intelligence/libero/norm_stats.json"


def test_no_statistics(openpi):
    (openpi / LIBERO_STATS).unlink()
    message = refusal(openpi, FileNotFoundError)
    assert "cannot run without them" in message
    assert "norm_stats_path" in message


def test_statistics_of_several_robots(openpi):
    other = {group: {n: [2 * x for x in v] for n, v in f.items()} for group, f in STATS.items()}
    write_json(openpi / "assets/droid/norm_stats.json", {"norm_stats": other})
    message = refusal(openpi)
    assert "assets/droid/norm_stats.json" in message
    assert LIBERO_STATS in message
    assert "norm_stats_path" in message
    assert load_policy(openpi, norm_stats_path=openpi / LIBERO_STATS)


@pytest.mark.parametrize(
    ("group", "name", "values", "complaint"),
    [
        ("actions", "mean", [0.0] * 6, "actions.mean has shape (6,), allowed lengths: 7 or 12"),
        ("state", "mean", [float("nan")] * 8, "state.mean holds NaN"),
        ("state", "std", [1.0] * 7 + [0.0], "state.std must be > 0, got 0.0 at position 7"),
        ("actions", "std", None, "actions.std must be a list of numbers, it is missing"),
        ("actions", "std", ["a"] * 7, "actions.std must be a list of numbers"),
    ],
)
def test_unusable_statistics(openpi, group, name, values, complaint):
    edit_json(openpi / LIBERO_STATS, lambda c: c["norm_stats"][group].update({name: values}))
    message = refusal(openpi)
    assert LIBERO_STATS in message
    assert complaint in message


def test_quantiles_that_do_not_open(openpi):
    edit_json(openpi / LIBERO_STATS, lambda c: c["norm_stats"]["actions"].update(q01=[9.0] * 7))
    assert "q99 - q01 must be > 0" in refusal(openpi, overrides={"norm_mode": "quantile"})
    assert load_policy(openpi)  # z-scores do not read quantiles


def test_statistics_that_contradict_extra_delta(openpi):
    # the gripper points down: axis-angle x is near pi, so absolute actions cannot average -3
    def point_down(content):
        content["norm_stats"]["state"]["mean"][3] = 3.0
        content["norm_stats"]["actions"]["mean"][3] = -2.9

    edit_json(openpi / LIBERO_STATS, point_down)
    assert load_policy(openpi).card.extra_delta
    message = refusal(openpi, overrides={"extra_delta": False})
    assert "mean of action 3: -2.900" in message
    assert "set policy.overrides.extra_delta=true" in message


def test_absolute_statistics_under_openpis_protocol(openpi):
    edit_json(openpi / LIBERO_STATS, lambda c: c["norm_stats"]["state"]["mean"].__setitem__(3, 3.0))
    message = refusal(openpi)
    assert "extra_delta is true" in message
    assert "set policy.overrides.extra_delta=false" in message
    assert not load_policy(openpi, overrides={"extra_delta": False}).card.extra_delta


def test_identity_normalization_is_never_used(lerobot):
    path = lerobot / "policy_preprocessor.json"
    edit_json(
        path,
        lambda c: c["steps"][1]["config"]["norm_map"].update(STATE="IDENTITY", ACTION="IDENTITY"),
    )
    message = refusal(lerobot)
    assert "policy_preprocessor.json" in message
    assert "IDENTITY" in message
    assert load_policy(lerobot, overrides={"norm_mode": "z_score"})


def test_pipelines_that_disagree(lerobot):
    path = next(lerobot.glob("policy_postprocessor_step*.safetensors"))
    tensors = load_file(path)
    tensors["action.std"] *= 2
    save_file(tensors, path)
    assert "normalize actions differently" in refusal(lerobot)


def test_missing_pipeline_state(lerobot):
    path = next(lerobot.glob("policy_preprocessor_step*.safetensors"))
    path.unlink()
    assert path.name in refusal(lerobot, FileNotFoundError)


def test_unknown_camera(lerobot):
    image = {"type": "VISUAL", "shape": [3, 8, 8]}
    edit_json(
        lerobot / "config.json",
        lambda c: c["input_features"].update({"observation.images.top": image}),
    )
    message = refusal(lerobot)
    assert "'top' is no camera of LIBERO" in message
    assert "policy.overrides.cameras" in message
    assert load_policy(lerobot, overrides={"cameras": ("agentview",)}).spec.cameras == (
        "agentview",
    )


def test_no_tokenizer(openpi):
    (openpi / "tokenizer.json").unlink()
    message = refusal(openpi, FileNotFoundError)
    assert "tokenizer.json" in message
    assert "policy.tokenizer_path" in message


@pytest.mark.parametrize("words", ["open", " ".join(f"word{i}" for i in range(99))])
def test_tokenizer_of_another_vocabulary(openpi, tmp_path, words):
    other = tmp_path / "other.json"
    build_tiny_tokenizer(words.split()).save(str(other))
    message = refusal(openpi, tokenizer_path=other)
    assert "bring the tokenizer the weights were trained with" in message


def test_unknown_override(openpi):
    assert "unknown policy override horizn" in refusal(openpi, overrides={"horizn": 3})


def test_override_out_of_bounds(openpi):
    message = refusal(openpi, overrides={"execute_steps": 7})
    assert "'execute_steps' must be in [1, horizon = 6], got 7" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "wide"),
        ("intermediate_size", -1),
        ("id2label", [1]),
        ("num_hidden_layers", None),
    ],
)
def test_configuration_that_is_none(openpi, key, value):
    edit_json(openpi / "config.json", lambda c: c["dit_config"].update({key: value}))
    message = refusal(openpi)
    assert "config.json: not a configuration of pi0" in message or "every size must" in message


@pytest.mark.parametrize("key", ["max_action_dim", "max_state_dim"])
def test_a_width_below_zero_in_transformers_configuration(originals, tmp_path, key):
    folder = shutil.copytree(originals["write_transformers_saved"], tmp_path / "policy")
    edit_json(folder / "config.json", lambda config: config.update({key: -1}))
    assert "config.json: not a configuration of pi0" in refusal(folder)


@pytest.mark.parametrize("key", ["chunk_size", "max_action_dim", "tokenizer_max_length"])
def test_a_number_that_no_memory_holds_is_refused_before_it_is_tried(lerobot, key):
    edit_json(lerobot / "config.json", lambda config: config.update({key: 10**30}))
    assert "must be <= 100000, got 1000000" in refusal(lerobot)


def test_layers_without_end_are_refused_before_they_are_built(openpi):
    edit_json(openpi / "config.json", lambda c: c["dit_config"].update(num_hidden_layers=10**6))
    assert "num_hidden_layers must be <= 1000, got 1000000" in refusal(openpi)


@pytest.mark.parametrize("value", [3, None, [], {"a": 1}])
@pytest.mark.parametrize("key", ["input_features", "normalization_mapping", "chunk_size", "dtype"])
def test_nonsense_in_lerobots_configuration_is_never_a_traceback(lerobot, key, value):
    edit_json(lerobot / "config.json", lambda config: config.update({key: value}))
    try:
        load_policy(lerobot)
    except ValueError as error:
        assert is_user_error(error)
        assert "\n" not in str(error)
