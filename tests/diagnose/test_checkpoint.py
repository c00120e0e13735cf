"""A checkpoint is read as loading would read it."""

import shutil
from pathlib import Path

from pi0.checkpoint import find_folder
from pi0.formats.folder import Choices
from pi0.ript.diagnose.checkpoint import check_checkpoint


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(find_folder("builtin"), folder / "policy"))


def test_a_whole_checkpoint_is_ok_and_its_size_known():
    diagnosis = check_checkpoint("builtin", Choices())

    assert [(f.name, f.status) for f in diagnosis.findings] == [
        ("policy", "ok"),
        ("tokenizer", "ok"),
    ]
    assert diagnosis.num_parameters == 3_182_503


def test_a_truncated_checkpoint_is_found(tmp_path: Path):
    weights = _copy(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])

    (finding,) = check_checkpoint(weights.parent, Choices()).findings

    assert finding.status == "error"
    assert "model.safetensors is damaged" in finding.text
    assert finding.fix


def test_a_missing_tokenizer_is_found(tmp_path: Path):
    folder = _copy(tmp_path)
    (folder / "tokenizer.json").unlink()

    diagnosis = check_checkpoint(folder, Choices())

    assert [f.status for f in diagnosis.findings] == ["error"]
    assert "tokenizer" in diagnosis.findings[0].text
    assert diagnosis.num_parameters == 0
