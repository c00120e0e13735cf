"""A policy survives the disk exactly; a bad folder is refused in one line that helps."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PI0ForConditionalGeneration

from pi0.checkpoint import load_policy, save_policy
from pi0.model.architecture import unused_tensor_names
from pi0.records import Sampling
from tests.policy_parts import TASKS, make_observations, small_config, small_policy

FILES = {"config.json", "policy.json", "model.safetensors", "norm_stats.json", "tokenizer.json"}
SAMPLING = Sampling(num_steps=3, noise_scale=0.5)
SOME_TENSOR = "embed_action_time.state_proj.weight"


@pytest.fixture(scope="module")
def policy():
    return small_policy()


@pytest.fixture
def folder(policy, tmp_path):
    save_policy(policy, tmp_path / "saved")
    return tmp_path / "saved"


def act(policy):
    return np.stack(
        [c.chain for c in policy.act(make_observations(3), TASKS[:3], [1, 2, 3], SAMPLING)]
    )


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(folder, error=ValueError) -> str:
    with pytest.raises(error) as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_policy_answers_bit_for_bit_alike(policy, folder):
    assert {file.name for file in folder.iterdir()} == FILES
    assert np.array_equal(act(load_policy(folder)), act(policy))


def test_saving_again_changes_no_byte(folder, tmp_path):
    save_policy(load_policy(folder), tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_half_precision_on_disk_loads_as_single_precision(policy, tmp_path):
    save_policy(policy, tmp_path, dtype=torch.float16)
    loaded = load_policy(tmp_path)
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    np.testing.assert_allclose(act(loaded), act(policy), atol=0.05)


def test_files_of_transformers_itself_load_although_they_hold_dead_tensors(policy, folder):
    reference = PI0ForConditionalGeneration(small_config(policy.card))
    save_file(reference.state_dict(), folder / "model.safetensors")
    loaded = load_policy(folder)
    name, tensor = "action_out_proj.weight", reference.action_out_proj.weight
    assert torch.equal(loaded.network.core.state_dict()[name], tensor)


def test_no_dead_tensor_is_written(policy, folder):
    names = load_file(folder / "model.safetensors").keys()
    assert names.isdisjoint(unused_tensor_names(policy.network.config))


def test_untrained_weights_are_a_function_of_the_seed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (act(small_policy(seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_norm_stats_can_be_replaced(folder, tmp_path):
    other = tmp_path / "mine.json"
    other.write_text((folder / "norm_stats.json").read_text())
    edit_json(other, lambda c: c["norm_stats"]["actions"].update(mean=[0.5] * 7))
    loaded = load_policy(folder, norm_stats_path=other)
    assert loaded.codec.stats.actions["mean"].tolist() == [0.5] * 7


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refusal(folder, FileNotFoundError)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_cut_off_file_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert name in refusal(folder)


def test_a_missing_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.pop(SOME_TENSOR))
    assert "1 of" in refusal(folder)
    assert SOME_TENSOR in refusal(folder)


def test_a_foreign_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert "1 tensors are unknown, first extra" in refusal(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update({SOME_TENSOR: torch.zeros(24, 13)}))
    message = refusal(folder)
    assert SOME_TENSOR in message
    assert "(24, 13)" in message
    assert "(24, 12)" in message


def test_a_tensor_with_nan_is_named(folder):
    edit_weights(folder, lambda tensors: tensors[SOME_TENSOR].fill_(float("nan")))
    assert f"tensor {SOME_TENSOR} holds NaN" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rotate180": True}, "unknown key 'rotate180'"),
        ({"horizon": "6"}, "'horizon' must be of type int, got '6'"),
        ({"horizon": True}, "'horizon' must be of type int, got True"),
        ({"rotate_180": 1}, "'rotate_180' must be of type bool, got 1"),
        ({"execute_steps": 7}, "'execute_steps' must be in [1, horizon = 6], got 7"),
        ({"state_encoding": "euler"}, "one of axis_angle, rotation6d, got 'euler'"),
        ({"state_dim": 7}, "'state_dim' must be >= 8 for axis_angle, got 7"),
        ({"state_encoding": "rotation6d"}, "'extra_delta' must be false"),
        ({"cameras": []}, "at least one camera"),
        ({"image_size": 42}, "policy.json says image_size 42"),
        ({"action_dim": 8}, "policy.json says action_dim 8"),
    ],
)
def test_a_wrong_policy_card_is_refused(folder, change, complaint):
    edit_json(folder / "policy.json", lambda card: card.update(change))
    message = refusal(folder)
    assert "policy.json" in message
    assert complaint in message


def test_a_missing_card_key_is_named(folder):
    edit_json(folder / "policy.json", lambda card: card.pop("extra_delta"))
    assert "key 'extra_delta' is missing" in refusal(folder)


def test_another_kind_of_model_is_refused(folder):
    edit_json(folder / "config.json", lambda config: config.update(model_type="pi0_fast"))
    assert "model_type must be 'pi0' or 'pi05', got 'pi0_fast'" in refusal(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder):
    edit_json(
        folder / "config.json", lambda c: c["vlm_config"]["text_config"].update(vocab_size=100)
    )
    assert "config.json allows 100" in refusal(folder)


def test_an_unknown_folder_says_what_is_allowed(tmp_path):
    assert "use 'builtin' or a checkpoint folder" in refusal(
        tmp_path / "nowhere", FileNotFoundError
    )


def test_no_temporary_file_is_left_behind(policy, tmp_path):
    (tmp_path / "model.safetensors").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"model\.safetensors"):
        save_policy(policy, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES


def test_files_may_be_read_by_whom_the_process_lets_read_its_files(tmp_path):
    """safetensors' own writer gives them to their owner alone, and a colleague cannot load the policy."""
    save_policy(small_policy(), tmp_path)
    other = tmp_path / "other"
    other.touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {other.stat().st_mode}


def test_saving_leaves_weights_that_sharded_learning_can_free(tmp_path):
    # A storage that numpy has seen cannot be resized, and FSDP frees weights by resizing them to nothing.
    policy = small_policy()
    save_policy(policy, tmp_path / "policy")
    assert all(p.untyped_storage().resizable() for p in policy.network.expert_parameters())
