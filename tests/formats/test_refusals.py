"""What is wrong with a folder is one line that names file, tensor and remedy."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from pi0.ript.scripts.exits import is_user_error
from pi0.tokenizer import build_tiny_tokenizer
from tests.formats.checkpoints import (
    STATS,
    reference_model,
    write_json,
    write_lerobot,
    write_openpi,
    write_rlinf,
    write_transformers_saved,
)

TENSOR = "action_in_proj.weight"
HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
EMBED = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
LIBERO_STATS = "assets/physical-intelligence/libero/norm_stats.json"


@pytest.fixture(scope="module")
def model():
    return reference_model()


@pytest.fixture(scope="module")
def originals(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    writers = (write_openpi, write_lerobot, write_rlinf, write_transformers_saved)
    return {write.__name__: write(root / write.__name__, model) for write in writers}


@pytest.fixture
def openpi(originals, tmp_path):
    return shutil.copytree(originals["write_openpi"], tmp_path / "policy")


@pytest.fixture
def lerobot(originals, tmp_path):
    return shutil.copytree(originals["write_lerobot"], tmp_path / "policy")


def refusal(folder, error=ValueError, **choices) -> str:
    with pytest.raises(error) as caught:
        load_policy(folder, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, 100_000])
def test_truncated_weights(openpi, kept):
    path = openpi / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(openpi)
    assert "model.safetensors is damaged or not safetensors" in message
    assert "copy it again" in message


def test_weights_of_another_model(openpi):
    save_file({"bert.embeddings": torch.zeros(2)}, openpi / "model.safetensors")
    message = refusal(openpi)
    assert "holds no pi0: 1 tensors, first bert.embeddings" in message
    assert "openpi, LeRobot, RLinf or transformers" in message


def test_missing_shard(originals, tmp_path):
    folder = shutil.copytree(originals["write_transformers_saved"], tmp_path / "policy")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    message = refusal(folder, FileNotFoundError)
    assert shard.name in message
    assert "copy the missing shard" in message


def test_shards_without_their_index(originals, tmp_path):
    folder = shutil.copytree(originals["write_transformers_saved"], tmp_path / "policy")
    (folder / "model.safetensors.index.json").unlink()
    assert "shards need their model.safetensors.index.json" in refusal(folder, FileNotFoundError)


def test_shard_that_lacks_a_listed_tensor(originals, tmp_path):
    folder = shutil.copytree(originals["write_transformers_saved"], tmp_path / "policy")
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    tensors = load_file(shard)
    name = min(tensors)
    tensors.pop(name)
    save_file(tensors, shard)
    assert f"{shard.name} lacks tensor {name}" in refusal(folder)


def test_pickled_weights_are_never_read(openpi):
    (openpi / "model.safetensors").rename(openpi / "pytorch_model.bin")
    assert "pytorch_model.bin may hold pickled code" in refusal(openpi, FileNotFoundError)


def test_code_in_full_weights_is_never_run(originals, tmp_path):
    folder = shutil.copytree(originals["write_rlinf"], tmp_path / "policy")
    weights = folder / "actor/model_state_dict/full_weights.pt"
    torch.save({"x": print}, weights)
    message = refusal(folder)
    assert "full_weights.pt is damaged or holds more than tensors" in message


def test_two_sets_of_weights(openpi, originals):
    weights = originals["write_rlinf"] / "actor/model_state_dict/full_weights.pt"
    shutil.copy(weights, openpi / "full_weights.pt")
    message = refusal(openpi)
    assert "several sets of weights: model.safetensors, full_weights.pt" in message


def test_missing_tensor(openpi):
    edit_weights(openpi, lambda tensors: tensors.pop(TENSOR))
    edit_weights(openpi, lambda tensors: tensors.update({"action_in_proj.other": torch.zeros(1)}))
    assert "1 tensors are unknown, first action_in_proj.other" in refusal(openpi)
    edit_weights(openpi, lambda tensors: tensors.pop("action_in_proj.other"))
    message = refusal(openpi)
    assert "model.safetensors" in message
    assert f"tensors are missing, first {TENSOR}" in message


def test_extra_tensor(openpi):
    edit_weights(openpi, lambda tensors: tensors.update(lora_a=torch.zeros(1)))
    message = refusal(openpi)
    assert "1 tensors are unknown, first lora_a" in message


def test_tensor_of_another_shape_is_named_before_anything_is_loaded(openpi):
    edit_weights(openpi, lambda tensors: tensors.update({TENSOR: torch.zeros(24, 32)}))
    message = refusal(openpi)
    assert f"tensor {TENSOR} has shape (24, 32), config.json asks for (24, 12)" in message


def test_quantized_tensor(openpi):
    whole = torch.zeros(24, 12, dtype=torch.int8)
    edit_weights(openpi, lambda tensors: tensors.update({TENSOR: whole}))
    assert f"tensor {TENSOR} has type I8" in refusal(openpi)


def test_nan_in_a_tensor(openpi):
    edit_weights(openpi, lambda tensors: tensors[TENSOR].fill_(float("nan")))
    assert "action_in_proj.weight holds NaN or infinity" in refusal(openpi)


def test_two_embeddings_that_differ(openpi):
    edit_weights(openpi, lambda tensors: tensors.update({EMBED: tensors[HEAD] + 1}))
    message = refusal(openpi)
    assert HEAD in message
    assert EMBED in message
    assert "differ" in message


def test_parts_of_pi05_in_a_pi0(openpi):
    edit_weights(openpi, lambda tensors: tensors.update({"time_mlp_in.weight": torch.zeros(1)}))
    message = refusal(openpi)
    assert "parts of pi0.5 (time_mlp_in.weight) and of pi0 (action_time_mlp_in" in message


def test_a_configuration_of_pi05_beside_a_pi0(lerobot):
    edit_json(lerobot / "config.json", lambda config: config.update(type="pi05"))
    assert "config.json says type 'pi05', but model.safetensors holds pi0;" in refusal(lerobot)


def test_fast(openpi):
    def drop_expert(tensors):
        for name in [name for name in tensors if not name.startswith("paligemma_with")]:
            tensors.pop(name)

    edit_weights(openpi, drop_expert)
    assert "pi0-FAST" in refusal(openpi)


def test_file_instead_of_a_folder(openpi):
    assert "is a file; give the checkpoint folder" in refusal(openpi / "model.safetensors")


def test_folder_of_symbolic_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        load_policy(tmp_path / "a")


def test_circle_of_links_inside_the_folder_is_harmless(openpi):
    (openpi / "assets/again").symlink_to(openpi)
    assert load_policy(openpi).card.layout == "openpi"


def test_run_directory_points_to_the_policy_inside(openpi, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(openpi, run / "checkpoints/last/pretrained_model")
    assert "did you mean" in refusal(run, FileNotFoundError)
    assert "checkpoints/last/pretrained_model" in refusal(run, FileNotFoundError)


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
