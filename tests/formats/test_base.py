"""A folder that holds only what was trained reads like a whole one while its base is as it was."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.background import in_background
from pi0.checkpoint import load_policy, save_trained
from pi0.formats.base import BASE, Base, read_base, verified
from pi0.formats.export import export_folder
from pi0.formats.folder import Choices, read_folder
from pi0.model.lora import trained_tensors
from pi0.policy import Pi0Policy
from tests.formats.checkpoints import reference_model, write_openpi
from tests.learner.samples import are_equal, weights_of
from tests.policy_parts import raises_one_line

WEIGHTS = "model.safetensors"
FROZEN = "model.vlm.language_model.layers.0.mlp.up_proj.weight"
NORM = "model.vlm.language_model.layers.0.input_layernorm.weight"
TRAINED = "action_out_proj.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of openpi in bfloat16."""
    folder = write_openpi(tmp_path / "source", reference_model())
    tensors = load_file(folder / WEIGHTS)
    save_file({name: each.bfloat16() for name, each in tensors.items()}, folder / WEIGHTS)
    return folder


def base_of(folder: Path) -> Base:
    return Base.of(folder, read_folder(folder, Choices()).tensors)


def trained(folder: Path, *, rank: int = 0) -> Pi0Policy:
    """The policy of a folder after a step that moves everything that is trained, in float32."""
    policy = load_policy(folder)
    if rank:
        policy.add_adapters(rank=rank, targets="both", seed=1)
    else:
        policy.trainable_parameters(expert_only=True)
    with torch.no_grad():
        for number, tensor in enumerate(trained_tensors(policy.network.core).values()):
            tensor.add_(1e-4 * (number + 1))
    return policy


def save(policy: Pi0Policy, folder: Path, base: Base, *, is_whole: bool = False) -> Path:
    save_trained(policy, folder, trained_tensors(policy.network.core), base, is_whole=is_whole)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_policy(folder)
    assert raises_one_line(caught.value)
    return str(caught.value)


def test_what_was_trained_is_stored_and_the_rest_comes_from_the_base(source: Path, tmp_path: Path):
    policy = trained(source)

    folder = save(policy, tmp_path / "trained", base_of(source))

    stored = load_file(folder / WEIGHTS)
    assert stored.keys() == trained_tensors(policy.network.core).keys()
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert are_equal(weights_of(load_policy(folder)), weights_of(policy))


def test_a_whole_one_keeps_the_type_of_what_was_left_alone(source: Path, tmp_path: Path):
    policy = trained(source)

    folder = save(policy, tmp_path / "whole", base_of(source), is_whole=True)
    shutil.rmtree(source)

    stored = load_file(folder / WEIGHTS)
    dtypes = [stored[name].dtype for name in (FROZEN, NORM, TRAINED)]
    # norms are computed in float32 and were stored in bfloat16, which holds them exactly
    assert dtypes == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert are_equal(weights_of(load_policy(folder)), weights_of(policy))


def test_what_was_loaded_in_a_narrower_type_is_stored_in_that(source: Path, tmp_path: Path):
    tensors = load_file(source / WEIGHTS)
    save_file({name: each.float() + 1e-6 for name, each in tensors.items()}, source / WEIGHTS)
    policy = load_policy(source, overrides={"dtype": "bfloat16"})
    policy.trainable_parameters(expert_only=True)

    folder = save(policy, tmp_path / "whole", base_of(source), is_whole=True)

    stored = load_file(folder / WEIGHTS)
    assert [stored[name].dtype for name in (FROZEN, NORM)] == [torch.bfloat16, torch.float32]
    assert are_equal(weights_of(load_policy(folder)), weights_of(policy))


@pytest.mark.parametrize("is_whole", [False, True])
def test_adapters_are_stored_alone_or_added_to_their_weights(
    source: Path, tmp_path: Path, is_whole: bool
):
    pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")
    policy = trained(source, rank=2)
    core = policy.network.core

    folder = save(policy, tmp_path / "trained", base_of(source), is_whole=is_whole)

    owner = "model.dit.layers.0.self_attn.q_proj"
    merged = core.get_submodule(owner).get_delta_weight("default")
    merged = merged + core.get_submodule(owner).base_layer.weight.float()
    found = read_folder(folder, Choices()).tensors[f"{owner}.weight"]
    assert torch.equal(found.read(), merged)
    size = (folder / WEIGHTS).stat().st_size
    assert (size < 0.5 * (source / WEIGHTS).stat().st_size) is not is_whole


def test_it_can_be_exported_and_trained_further(source: Path, tmp_path: Path):
    first = save(trained(source), tmp_path / "first", base_of(source))

    export_folder(read_folder(first, Choices()), tmp_path / "out", "lerobot")
    policy = trained(first)
    second = save(policy, tmp_path / "second", base_of(first))

    assert load_policy(tmp_path / "out").card.layout == "lerobot"
    assert set(base_of(first).files) == {BASE, WEIGHTS}
    assert are_equal(weights_of(load_policy(second)), weights_of(policy))


def test_a_base_that_moved_can_be_linked_to(source: Path, tmp_path: Path):
    policy = trained(source)
    folder = save(policy, tmp_path / "trained", base_of(source))
    source.rename(tmp_path / "elsewhere")

    said = refusal(folder)

    assert f"{source / WEIGHTS} does not exist" in said
    assert f"ln -s NEW_PLACE {source}" in said
    source.symlink_to(tmp_path / "elsewhere")
    assert are_equal(weights_of(load_policy(folder)), weights_of(policy))


@pytest.mark.parametrize("damage", ["one bit", "longer"])
def test_a_base_that_changed_is_refused(source: Path, tmp_path: Path, damage: str):
    folder = save(trained(source), tmp_path / "trained", base_of(source))
    content = bytearray((source / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (source / WEIGHTS).write_bytes(content + bytes(damage == "longer"))
    os.utime(source / WEIGHTS, ns=(1, 1))  # the clock of files may be too coarse for a test

    said = refusal(folder)

    assert f"{source / WEIGHTS} has changed" in said
    assert "put the original file back" in said


def change_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # the clock of files may be too coarse for a test


def test_a_base_of_a_base_that_changed_is_refused(source: Path, tmp_path: Path):
    first = save(trained(source), tmp_path / "first", base_of(source))
    second = save(trained(first), tmp_path / "second", base_of(first))
    change_one_bit(source / WEIGHTS)
    assert f"{source / WEIGHTS} has changed" in refusal(second)


def test_nothing_is_exported_of_a_base_that_changed(source: Path, tmp_path: Path):
    folder = save(trained(source), tmp_path / "trained", base_of(source))
    change_one_bit(source / WEIGHTS)
    with pytest.raises(ValueError, match="has changed"):
        export_folder(read_folder(folder, Choices()), tmp_path / "out", "lerobot")
    assert not (tmp_path / "out").exists()


def test_what_a_changed_base_breaks_is_said_by_its_name(source: Path):
    base = base_of(source)
    change_one_bit(source / WEIGHTS)
    with pytest.raises(ValueError, match="has changed"), verified([base]):
        raise RuntimeError("numbers that make no sense")
    with pytest.raises(RuntimeError, match="no sense"), verified([base_of(source)]):
        raise RuntimeError("numbers that make no sense")


def test_every_byte_is_read_once_however_many_want_to_know(source: Path, monkeypatch):
    read = []
    digest = hashlib.file_digest

    def counted(file, name):
        read.append(Path(file.name).name)
        time.sleep(0.2)
        return digest(file, name)

    change_one_bit(source / WEIGHTS)  # a file that no test has read before
    monkeypatch.setattr(hashlib, "file_digest", counted)
    tensors = read_folder(source, Choices()).tensors
    found = [in_background(lambda: Base.of(source, tensors)) for _ in range(3)]
    assert len({future.result(60).files[WEIGHTS].sha256 for future in found}) == 1
    assert read == [WEIGHTS]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "must hold a path and files"),
        ('{"path": "/x", "files": {"a": {"bytes": 1}}}', "must hold a path and files"),
        (
            '{"path": "/x", "files": {"../a": {"bytes": 1, "sha256": "0"}}}',
            "must lie in the folder",
        ),
        ("[", "base.json"),
    ],
)
def test_a_damaged_record_is_refused(source: Path, tmp_path: Path, text: str, words: str):
    folder = save(trained(source), tmp_path / "trained", base_of(source))
    (folder / BASE).write_text(text)

    assert words in refusal(folder)


def test_bases_in_a_circle_are_refused(source: Path, tmp_path: Path):
    first = save(trained(source), tmp_path / "first", base_of(source))
    second = save(trained(first), tmp_path / "second", base_of(first))
    base = base_of(second)
    (first / BASE).write_text(base.to_json())
    circle = json.loads((second / BASE).read_text())
    circle["files"][BASE]["bytes"] = (first / BASE).stat().st_size
    (second / BASE).write_text(json.dumps(circle))
    base_again = json.loads((first / BASE).read_text())
    base_again["files"][BASE]["bytes"] = (second / BASE).stat().st_size
    text = json.dumps(base_again)
    (first / BASE).write_text(text + " " * (circle["files"][BASE]["bytes"] - len(text)))

    assert "names a base that needs this policy" in refusal(first)


def test_an_adapter_of_another_network_is_refused(source: Path, tmp_path: Path):
    folder = save(trained(source), tmp_path / "trained", base_of(source))
    tensors = load_file(folder / WEIGHTS)
    owner = "model.dit.layers.0.self_attn.q_proj"
    del tensors[f"{owner}.weight"]
    adapter = {
        f"{owner}.lora_A.weight": torch.ones(2, 3),
        f"{owner}.lora_B.weight": torch.ones(5, 2),
    }
    save_file({**tensors, **adapter}, folder / WEIGHTS)
    assert f"adapter of {owner}.weight is [5, 2] times [2, 3]" in refusal(folder)

    save_file({**tensors, f"{owner}.lora_A.weight": torch.ones(2, 3)}, folder / WEIGHTS)
    assert f"{owner}.lora_B.weight is missing" in refusal(folder)


def test_the_record_is_read_as_it_was_written(source: Path, tmp_path: Path):
    base = base_of(source)
    (tmp_path / BASE).write_text(base.to_json())

    found = read_base(tmp_path)

    assert found is not None
    assert (found.path, found.files) == (base.path, base.files)
    assert read_base(source) is None
