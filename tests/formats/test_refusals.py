"""What is wrong with a folder is one line that names file, tensor and remedy."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from tests.formats.refusing import edit_json, refusal

TENSOR = "action_in_proj.weight"
HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
EMBED = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


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
