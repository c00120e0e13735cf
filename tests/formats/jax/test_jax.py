"""Orbax folders of openpi become openpi's PyTorch tensors, bit for bit, or one line says why not."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0.formats.jax.orbax import find_params, open_arrays
from pi0.formats.jax.sizes import sizes_of_tree
from pi0.formats.jax.tree import to_openpi
from tests.policy_parts import raises_one_line, small_card, small_config

pytest.importorskip("tensorstore", reason="tensorstore is optional: pip install 'pi0-ript[jax]'")

from tests.formats.jax.tree import jax_tree, openpi_tensors, write_orbax


@pytest.fixture(scope="module")
def trees():
    return {is_pi05: jax_tree(openpi_tensors(is_pi05=is_pi05)) for is_pi05 in (False, True)}


def read_all(params):
    return {name: stored.read() for name, stored in to_openpi(params, open_arrays(params)).items()}


def refused(params, *parts):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_all(params)
    assert raises_one_line(caught.value, *parts), caught.value


@pytest.mark.parametrize(
    ("is_pi05", "is_ocdbt", "leaf"),
    [(False, True, ()), (True, True, ("value",)), (True, False, ()), (False, False, ("value",))],
)
def test_every_tensor_is_read_bit_for_bit(trees, tmp_path, is_pi05, is_ocdbt, leaf):
    assert len(trees[is_pi05]) == (51 if is_pi05 else 50)
    params = write_orbax(tmp_path / "params", trees[is_pi05], is_ocdbt=is_ocdbt, leaf=leaf)
    tensors = to_openpi(params, open_arrays(params))
    expected = openpi_tensors(is_pi05=is_pi05)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.shape == expected[name].shape, name
        assert np.array_equal(tensor.read().numpy(), expected[name]), name


def test_half_precision_stays_what_is_stored(trees, tmp_path):
    params = write_orbax(tmp_path / "params", trees[True], dtype="bfloat16")
    tensors = to_openpi(params, open_arrays(params))
    for name, values in openpi_tensors(is_pi05=True).items():
        stored = tensors[name]
        assert stored.dtype == torch.bfloat16
        assert torch.equal(stored.read(), torch.from_numpy(values).bfloat16()), name


def test_an_array_is_read_once_for_all_its_layers(trees, tmp_path):
    params = write_orbax(tmp_path / "params", trees[False])
    reads = Counter()

    def counted(name, array):
        def read():
            reads[name] += 1
            return array.read()

        return replace(array, read=read)

    arrays = {name: counted(name, array) for name, array in open_arrays(params).items()}
    assert not reads  # headers only
    for name, tensor in to_openpi(params, arrays).items():
        if "layers.1.mlp" not in name:  # a network leaves some out
            tensor.read()
    assert set(reads.values()) == {1}
    assert reads.keys() == arrays.keys()


@pytest.mark.parametrize("is_pi05", [False, True])
def test_shapes_tell_the_sizes(trees, tmp_path, is_pi05):
    arrays = open_arrays(write_orbax(tmp_path / "params", trees[is_pi05]))
    found = sizes_of_tree(arrays)
    card = small_card()
    expected = small_config(card, is_pi05=is_pi05).to_dict()
    assert ("pi05" in found) == is_pi05
    assert found["max_action_dim"] == card.action_dim
    assert found["max_state_dim"] == (card.action_dim if is_pi05 else card.state_dim)
    vlm, vlm_expected = found["vlm_config"], expected["vlm_config"]
    for part, wanted in (
        (vlm["text_config"], vlm_expected["text_config"]),
        (vlm["vision_config"], vlm_expected["vision_config"] | {"vision_use_head": False}),
        (found["dit_config"], expected["dit_config"]),
    ):
        assert part == {key: wanted[key] for key in part}


class TestFolders:
    def test_the_folder_or_its_params_may_be_given(self, trees, tmp_path):
        params = write_orbax(tmp_path / "pi0_libero" / "params", {"a/b": np.zeros(1)})
        assert find_params(params.parent) == find_params(params) == params

    def test_a_training_run_is_answered_with_its_last_step(self, tmp_path):
        for step in (9, 10):
            write_orbax(tmp_path / str(step) / "params", {"a/b": np.zeros(1)})
        with pytest.raises(FileNotFoundError) as caught:
            find_params(tmp_path)
        assert raises_one_line(caught.value, "2 training steps", str(tmp_path / "10"))

    def test_other_folders_are_none_of_orbax(self, tmp_path):
        (tmp_path / "params").mkdir()
        assert find_params(tmp_path) is None


class TestRefusals:
    def test_a_missing_piece_is_never_zeros(self, trees, tmp_path):
        params = write_orbax(tmp_path / "params", trees[False], is_ocdbt=False)
        (params / "params.action_in_proj.kernel" / "1.0").unlink()
        refused(params, str(params), "action_in_proj/kernel", "copy the folder again")

    def test_a_truncated_manifest(self, trees, tmp_path):
        params = write_orbax(tmp_path / "params", trees[False])
        manifest = params / "manifest.ocdbt"
        manifest.write_bytes(manifest.read_bytes()[:20])
        refused(params, str(params), "cannot be read", "copy the folder again")

    def test_missing_data_files(self, trees, tmp_path):
        params = write_orbax(tmp_path / "params", trees[True])
        shutil.rmtree(params / "d")
        refused(params, str(params), "cannot be read")

    @pytest.mark.parametrize("name", ["PaliGemma/llm/extra/w", "value_head/kernel"])
    def test_one_array_too_many(self, trees, tmp_path, name):
        tree = trees[True] | {name: np.zeros((2, 2))}
        refused(write_orbax(tmp_path / "params", tree), "also holds 1 arrays", name, "51")

    def test_one_array_too_few(self, trees, tmp_path):
        tree = {name: x for name, x in trees[False].items() if name != "state_proj/bias"}
        refused(write_orbax(tmp_path / "params", tree), "lacks 1 arrays", "state_proj/bias", "50")

    def test_another_model(self, tmp_path):
        tree = {"PaliGemma/llm/embedder/input_embedding": np.zeros((3, 2))}
        refused(write_orbax(tmp_path / "params", tree), "no flow policy", "pi0-FAST")

    @pytest.mark.parametrize(
        "text",
        ["{", "{}", '{"tree_metadata": {"x": {"key_metadata": [{"key": "../x"}]}}}', "[]",
         '{"tree_metadata": {"x": {"key_metadata": [{"key": "opt"}, {"key": "x"}]}}}'],
    )  # fmt: skip
    def test_damaged_metadata(self, tmp_path, text):
        params = tmp_path / "params"
        params.mkdir()
        (params / "_METADATA").write_text(text)
        refused(params, "_METADATA")

    def test_whole_numbers_are_no_weights(self, trees, tmp_path):
        params = write_orbax(tmp_path / "params", trees[False], dtype="int32")
        refused(params, "int32", "float32, bfloat16")


class TestAdapters:
    def with_adapters(self, tree, rank=16):
        rng = np.random.default_rng(0)

        def pair(shape):
            down = rng.normal(size=(*shape[:-1], rank)).astype(np.float32)
            return down, rng.normal(size=(*shape[:-2], rank, shape[-1])).astype(np.float32)

        attention = "PaliGemma/llm/layers/attn/q_einsum"
        gating = "PaliGemma/llm/layers/mlp/gating_einsum"
        added = dict(tree)
        added[f"{attention}/lora_a"], added[f"{attention}/lora_b"] = pair(
            tree[f"{attention}/w"].shape
        )
        added[f"{gating}_lora_a"], added[f"{gating}_lora_b"] = pair(tree[gating].shape)
        return added

    def test_are_added_to_their_weights_in_single_precision(self, trees, tmp_path):
        tree = self.with_adapters(trees[False])
        attention = "PaliGemma/llm/layers/attn/q_einsum"
        gating = "PaliGemma/llm/layers/mlp/gating_einsum"
        merged = trees[False] | {
            f"{attention}/w": tree[f"{attention}/w"]
            + tree[f"{attention}/lora_a"] @ tree[f"{attention}/lora_b"],
            gating: tree[gating] + tree[f"{gating}_lora_a"] @ tree[f"{gating}_lora_b"],
        }
        found, expected = (
            to_openpi(params, open_arrays(params))
            for params in (
                write_orbax(tmp_path / "adapters", tree),
                write_orbax(tmp_path / "merged", merged),
            )
        )
        assert found.keys() == expected.keys()
        for name in found:
            torch.testing.assert_close(found[name].read(), expected[name].read())

    def test_of_another_rank_are_refused(self, trees, tmp_path):
        params = write_orbax(tmp_path / "params", self.with_adapters(trees[False], rank=4))
        refused(params, "rank 4", "16")

    def test_without_their_other_half_are_refused(self, trees, tmp_path):
        tree = self.with_adapters(trees[False])
        del tree["PaliGemma/llm/layers/attn/q_einsum/lora_b"]
        refused(write_orbax(tmp_path / "params", tree), "lora_a", "belongs to no weight")


def test_without_tensorstore_the_remedy_is_named(trees, tmp_path, monkeypatch):
    params = write_orbax(tmp_path / "params", {"a/b": np.zeros(1)})
    monkeypatch.setitem(__import__("sys").modules, "tensorstore", None)
    refused(params, "tensorstore is not installed", "pip install 'pi0-ript[jax]'")
