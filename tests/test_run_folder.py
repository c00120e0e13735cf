"""``--resume`` takes a path in a run for the run, and says so where it cannot mean that."""

from pathlib import Path

import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.load import load_launch
from pi0.ript.run_folder import find_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the checkpoints 3 and 12, ``last`` a link."""
    folder = tmp_path / "outputs/run"
    for step in (3, 12):
        (folder / f"checkpoints/{step}/training_state").mkdir(parents=True)
    (folder / "checkpoints/last").symlink_to("12")
    (folder / "videos").mkdir()
    (folder / "config.yaml").write_text("exp_name: x\n")
    return folder


@pytest.mark.parametrize(
    "inner", ["checkpoints/12/training_state", "videos", "metrics.jsonl", "videos/../checkpoints"]
)
def test_a_path_in_the_run_resumes_it_with_one_notice(run: Path, inner, caplog):
    launch = load_launch(["--resume", str(run / inner)])

    assert launch.resume == run
    assert launch.config.exp_name == "x"
    assert [str(run) in message for message in caplog.messages] == [True]


def test_a_link_to_a_checkpoint_resumes_its_run(run: Path, tmp_path: Path):
    (tmp_path / "newest").symlink_to(run / "checkpoints/12")

    assert load_launch(["--resume", str(tmp_path / "newest")]).resume == run


def test_an_earlier_checkpoint_is_refused_with_the_way_to_begin_there(run: Path):
    with pytest.raises(
        ConfigError, match=r"newest checkpoint, 12; .* --policy_path .*/3/pretrained_model"
    ):
        load_launch(["--resume", str(run / "checkpoints/3")])


def test_the_folder_of_all_runs_names_the_newest_one(run: Path):
    with pytest.raises(FileNotFoundError, match=f"the newest one is {run}"):
        load_launch(["--resume", str(run.parent)])


def test_a_policy_beside_a_configuration_is_in_no_run(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("exp_name: x\n")
    (tmp_path / "pi0").mkdir()

    assert find_run(tmp_path / "pi0") is None
