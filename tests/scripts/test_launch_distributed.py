"""The launcher of several learners takes what ``ript train`` takes."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/launch_distributed_training.sh"


def launch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "--dry-run", *arguments], capture_output=True, text=True, check=False
    )


def test_a_shipped_configuration_is_given_by_its_name(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("")

    assert (
        "train_ript_pi0.py quickstart --algo.lr 1e-5"
        in launch("-c", "quickstart", "--", "--algo.lr", "1e-5").stdout
    )
    assert f"--config_path {tmp_path}/own.yaml" in launch("-c", tmp_path / "own.yaml").stdout


@pytest.mark.parametrize("name", ["quikstart", "quickstart.yaml", "../config/quickstart", "$x"])
def test_what_is_neither_file_nor_name_is_refused_with_the_names(name: str):
    done = launch("-c", name)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: --config '{name}' does not exist; give a YAML file or one of: "
    )
    assert "quickstart" in done.stderr
