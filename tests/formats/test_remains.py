"""A folder without usable weights is told what lies there and what to do, by looking and not by suffix."""

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from pi0.formats.export import export_folder
from pi0.formats.folder import Choices, read_folder
from pi0.ript.scripts.exits import is_user_error
from tests.formats.checkpoints import (
    RLINF_WEIGHTS,
    edit_json,
    reference_model,
    write_json,
    write_lerobot,
    write_openpi,
    write_rlinf,
    write_transformers_saved,
)

NOBODY = 65534
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 7000000000\n"
LOGIN = '\n<!DOCTYPE html><html lang="en"><title>Log in</title></html>'
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root, model = tmp_path_factory.mktemp("originals"), reference_model()
    writers = (write_openpi, write_lerobot, write_rlinf, write_transformers_saved)
    return {w.__name__.removeprefix("write_"): w(root / w.__name__, model) for w in writers}


@pytest.fixture
def copies(originals, tmp_path):
    return lambda layout: shutil.copytree(originals[layout], tmp_path / "policy", symlinks=True)


@pytest.fixture
def openpi(copies):
    return copies("openpi")


def refusal(folder) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        read_folder(folder, Choices())
    assert is_user_error(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace_weights(folder, name, content: bytes | str = b"x"):
    (folder / WEIGHTS).unlink()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


INSTEAD = {
    "adapter_model.bin": ("a LoRA adapter of another checkpoint", "merge_and_unload"),
    "actor/dcp_checkpoint/.metadata": ("there is actor/dcp_checkpoint", "save_full_model_weights"),
    "__0_0.distcp": ("torch's distributed checkpoint", "dcp_to_torch"),
    "zero_to_fp32.py": ("shards of DeepSpeed", "--safe_serialization"),
    "model-00001-of-00002.safetensors": ("shards need their", "index.json"),
    "model.safetensors.incomplete": ("not downloaded to its end", "download it again"),
    "pi0_libero.tar.gz": ("there is pi0_libero.tar.gz", "unpack it first"),
    "pi0.gguf": ("of a format that is not read", "bring the weights"),
    "pytorch_model.bin": ("may hold pickled code", "convert it to model.safetensors"),
    "20000/model.safetensors": ("did you mean", "20000"),
    "global_step_40/actor/model_state_dict/full_weights.pt": ("did you mean", "global_step_40"),
    "checkpoints/last/pretrained_model/config.json": ("did you mean", "checkpoints/last"),
    "snapshots/0abc/config.json": ("did you mean", "snapshots/0abc"),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_lies_there_decides_the_remedy(openpi, name):
    replace_weights(openpi, name)
    message = refusal(openpi)
    assert "model.safetensors does not exist" in message
    for words in INSTEAD[name]:
        assert words in message


def test_an_adapter_names_the_checkpoint_that_it_belongs_to(openpi):
    replace_weights(openpi, "adapter_model.safetensors")
    write_json(openpi / "adapter_config.json", {"base_model_name_or_path": "lerobot/pi0_base"})
    assert "a LoRA adapter of lerobot/pi0_base" in refusal(openpi)


def test_an_adapter_beside_whole_weights_is_named(openpi):
    (openpi / "adapter_model.safetensors").write_bytes(b"x")
    contents = read_folder(openpi, Choices())
    assert contents.not_followed == (
        "adapter_model.safetensors: an adapter beside whole weights, which are read without it",
    )


@pytest.mark.parametrize(
    "name", ["ema_model.safetensors", "model_ema.safetensors", "pi0.safetensors"]
)
def test_a_network_under_another_name_is_recognized_as_one(openpi, name):
    (openpi / WEIGHTS).rename(openpi / name)
    message = refusal(openpi)
    assert f"there is {name}" in message
    assert ("averaged weights" if "ema" in name else "weights under another name") in message
    assert "shards" not in message


def test_statistics_are_no_weights(copies):
    folder = copies("lerobot")
    (folder / WEIGHTS).unlink()
    assert "the checkpoint folder is incomplete" in refusal(folder)


LINKS = [
    ("openpi", WEIGHTS),
    ("openpi", "config.json"),
    ("openpi", "tokenizer.json"),
    ("openpi", "assets"),
    ("lerobot", "policy_preprocessor.json"),
    ("lerobot", "policy_postprocessor.json"),
    ("rlinf", RLINF_WEIGHTS),
    ("transformers_saved", "model.safetensors.index.json"),
    ("transformers_saved", "processor_config.json"),
]


@pytest.mark.parametrize(("layout", "name"), LINKS)
def test_a_link_whose_file_is_gone_is_never_taken_as_absent(copies, layout, name):
    path = copies(layout) / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to("../../blobs/0123abcd")
    message = refusal(path.parents[len(Path(name).parts) - 1])
    assert f"{path} is a link that points to ../../blobs/0123abcd, which does not exist" in message


STAND_INS = [
    ("openpi", WEIGHTS),
    ("openpi", "config.json"),
    ("openpi", "tokenizer.json"),
    ("openpi", "assets/physical-intelligence/libero/norm_stats.json"),
    ("lerobot", "policy_preprocessor_step_5_normalizer_processor.safetensors"),
    ("rlinf", RLINF_WEIGHTS),
    ("transformers_saved", "model.safetensors.index.json"),
]


@pytest.mark.parametrize(("layout", "name"), STAND_INS)
def test_a_pointer_or_a_web_page_is_told_from_a_damaged_file(copies, layout, name):
    path = copies(layout) / name
    folder = path.parents[len(Path(name).parts) - 1]
    path.write_text(POINTER)
    message = refusal(folder)
    assert f"{path} is a pointer of Git LFS, its 7000000000 bytes were never fetched" in message
    assert "copy it again" not in message
    path.write_text(LOGIN)
    assert f"{path} is a web page" in refusal(folder)


def test_a_sentencepiece_model_may_be_a_pointer_too(openpi):
    (openpi / "tokenizer.json").unlink()
    (openpi / "tokenizer.model").write_text(POINTER)
    assert "tokenizer.model is a pointer of Git LFS" in refusal(openpi)


def test_a_shard_may_be_a_pointer_or_gone(copies):
    folder = copies("transformers_saved")
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    shard.write_text(POINTER)
    assert f"{shard.name} is a pointer of Git LFS" in refusal(folder)
    shard.unlink()
    shard.symlink_to("gone")
    assert f"{shard.name} is a link that points to gone" in refusal(folder)


def test_the_old_format_of_torch_save_is_read_and_never_runs_code(copies):
    folder = copies("rlinf")
    path = folder / RLINF_WEIGHTS
    tensors = torch.load(path)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    found = read_folder(folder, Choices()).tensors
    assert torch.equal(found["action_out_proj.bias"].read(), tensors["action_out_proj.bias"])
    torch.save(tensors | {"x": print}, path, _use_new_zipfile_serialization=False)
    assert "holds more than tensors" in refusal(folder)


def test_half_precision_stays_what_it_was_through_openpis_files(openpi, tmp_path):
    path = openpi / WEIGHTS
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    edit_json(openpi / "config.json", precision=...)
    contents = read_folder(openpi, Choices())
    export_folder(contents, tmp_path / "again", "openpi")
    written = json.loads((tmp_path / "again/config.json").read_text())
    assert written["precision"] == contents.card.dtype == "bfloat16"
    assert "float16 weights are rounded to bfloat16" in "\n".join(contents.not_followed)
    whole = read_folder(openpi, Choices(overrides={"dtype": "float32"}))
    assert whole.not_followed == ()


@contextmanager
def nobodys_rights():
    """Root may read everything: be nobody for a while."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["config.json", "assets", WEIGHTS, "tokenizer.json"])
def test_what_may_not_be_read_is_never_taken_as_absent(originals, name):
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # pytest's own folders are root's alone
        folder = shutil.copytree(originals["openpi"], Path(root) / "policy")
        for path in (Path(root), *folder.rglob("*")):
            path.chmod(0o755)
        (folder / name).chmod(0)
        with nobodys_rights():
            message = refusal(folder)
        (folder / name).chmod(0o755)
    assert name in message
    assert "denied" in message


class VanishingFolder:
    """Removes a folder when Python is about to look at something in it for the n-th time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.countdown = str(folder), -1
        sys.addaudithook(self)  # cannot be taken away; it does nothing once the count is over

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        is_look = event in ("open", "os.listdir", "os.scandir")
        if self.countdown < 0 or not is_look or not str(arguments[0]).startswith(self.folder):
            return
        self.countdown -= 1
        if self.countdown < 0:
            shutil.rmtree(self.folder)


def test_a_folder_that_vanishes_while_it_is_read_is_one_line(originals, tmp_path):
    target = tmp_path / "policy"
    vanishing = VanishingFolder(target)
    for layout in ("lerobot", "openpi", "rlinf", "transformers_saved"):
        for count in range(40):
            shutil.copytree(originals[layout], target)
            vanishing.countdown = count
            try:
                load_policy(target)
            except (ValueError, OSError) as error:
                assert is_user_error(error)
                assert "\n" not in str(error)
            if vanishing.countdown >= 0:
                break  # it was never looked at so often
            assert not target.exists()
        else:
            pytest.fail("the folder is looked at more often than is tried")
        vanishing.countdown = -1
        shutil.rmtree(target)
