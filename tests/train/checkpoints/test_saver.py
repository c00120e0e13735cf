"""Checkpoints of a run hold what has changed, name what it was trained from, and are written beside the next step."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pi0.checkpoint import BUILTIN, load_policy, save_policy
from pi0.formats.base import BASE, Base, read_base
from pi0.formats.folder import Choices, read_folder
from pi0.ript.build_policy import find_base
from pi0.ript.config.load import load_launch, save_config
from pi0.ript.config.policy import LoraConfig
from pi0.ript.config.schema import TrainConfig
from pi0.ript.run_folder import RUN_CONFIG_NAME
from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train.checkpoints.checksums import write_checksums
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.run import train_run
from tests.learner.samples import are_equal, weights_of
from tests.policy_parts import raises_one_line, small_policy
from tests.train.checkpoints.test_store import no_file_larger_than
from tests.train.toy_run import toy_arguments
from tests.train.toy_world import toy_trainer

OPTIMIZER = "training_state/optimizer.safetensors"
LORA = LoraConfig(rank=2, targets="both")


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "policy"
    save_policy(small_policy(), folder)
    return folder


@pytest.fixture(scope="module")
def slim(policy_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run of two steps."""
    return train(config_of(policy_path), tmp_path_factory.mktemp("slim") / "run")


@pytest.fixture(scope="module")
def whole(policy_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the same run, every one of them a whole policy."""
    config = config_of(policy_path, save_full_policy="all")
    return train(config, tmp_path_factory.mktemp("whole") / "run")


def back_at_step_1(checkpoints: Path, run_dir: Path) -> Path:
    """Copy a run as if it had been killed in its second step; return its checkpoints."""
    shutil.copytree(checkpoints.parent, run_dir, symlinks=True)
    shutil.rmtree(run_dir / "checkpoints/2")
    return run_dir / "checkpoints"


def config_of(policy_path: Path, num_steps: int = 2, **training: object) -> TrainConfig:
    """Every step is saved; nothing is evaluated."""
    arguments = toy_arguments(
        policy_path,
        policy_path.parent,
        training__num_train_steps=num_steps,
        training__save_freq=1,
        training__keep_checkpoints=9,
        evaluation__rollouts_per_task=0,
    )
    config = load_launch(arguments, {}).config
    return replace(config, training=replace(config.training, **training))


def train(config: TrainConfig, run_dir: Path, *, resumes: bool = False) -> Path:
    """Train to the end; return the folder of its checkpoints."""
    policy = load_policy(config.policy_path)
    run_dir.mkdir(exist_ok=True)
    save_config(config, run_dir / RUN_CONFIG_NAME)
    with toy_trainer(config, policy, run_dir, resumes=resumes) as (trainer, _):
        train_run(trainer, run_dir)
    return run_dir / "checkpoints"


def stored(checkpoint: Path) -> set[str]:
    return set(load_file(checkpoint / POLICY_FOLDER / "model.safetensors"))


def every_name(policy_path: Path) -> set[str]:
    return set(read_folder(policy_path, Choices()).tensors)


def test_the_first_holds_nothing_the_next_what_was_trained_and_the_last_everything(
    policy_path: Path, slim: Path
):
    policy = load_policy(policy_path)
    policy.trainable_parameters(expert_only=True)
    trained = {n for n, p in policy.network.core.named_parameters() if p.requires_grad}
    assert stored(slim / "0") == set()
    assert stored(slim / "1") == trained
    assert stored(slim / "2") == every_name(policy_path)
    first = load_policy(slim / "0" / POLICY_FOLDER)
    assert are_equal(weights_of(first), weights_of(policy))


def test_they_hold_the_same_policies_as_whole_ones(policy_path: Path, slim: Path, whole: Path):
    for step in ("0", "1", "2"):
        assert stored(whole / step) == every_name(policy_path)
        one, other = (load_policy(folder / step / POLICY_FOLDER) for folder in (slim, whole))
        assert are_equal(weights_of(one), weights_of(other))
        assert (slim / step / OPTIMIZER).read_bytes() == (whole / step / OPTIMIZER).read_bytes()


def test_a_resumed_run_ends_with_the_same_bits(policy_path: Path, slim: Path, tmp_path: Path):
    resumed = back_at_step_1(slim, tmp_path / "run")

    train(config_of(policy_path), tmp_path / "run", resumes=True)

    for name in (OPTIMIZER, f"{POLICY_FOLDER}/model.safetensors", f"{POLICY_FOLDER}/{BASE}"):
        ours, theirs = ((each / "2" / name).read_bytes() for each in (resumed, slim))
        assert ours == theirs, name


def test_a_run_from_before_bases_were_named_goes_on_with_whole_policies(
    policy_path: Path, whole: Path, tmp_path: Path
):
    old = back_at_step_1(whole, tmp_path / "run")
    (old / "1" / POLICY_FOLDER / BASE).unlink()
    sums = old / "1" / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if BASE not in line))

    train(config_of(policy_path), tmp_path / "run", resumes=True)

    assert not (old / "2" / POLICY_FOLDER / BASE).exists()
    ours, theirs = (load_policy(each / "2" / POLICY_FOLDER) for each in (old, whole))
    assert are_equal(weights_of(ours), weights_of(theirs))


def test_adapters_are_stored_alone_and_resumed_on_the_policy_they_are_of(
    policy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")
    shutil.copytree(policy_path, tmp_path / "policy")
    monkeypatch.chdir(tmp_path)
    config = config_of(Path("policy"))
    config = replace(config, policy=replace(config.policy, lora=LORA))
    straight = train(config, tmp_path / "straight")
    resumed = back_at_step_1(straight, tmp_path / "resumed")
    assert all(".lora_" in name for name in stored(resumed / "1"))

    train(config, tmp_path / "resumed", resumes=True)

    for name in (OPTIMIZER, f"{POLICY_FOLDER}/model.safetensors"):
        ours, theirs = ((each / "2" / name).read_bytes() for each in (resumed, straight))
        assert ours == theirs, name
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    shutil.copytree(policy_path, "policy")
    with (
        pytest.raises(ValueError, match="was trained from") as caught,
        toy_trainer(config, small_policy(), tmp_path / "resumed", resumes=True),
    ):
        pass
    assert raises_one_line(caught.value, str(tmp_path / "policy"), str(tmp_path / "other/policy"))


def test_a_run_whose_policy_moved_is_not_resumed(slim: Path, tmp_path: Path):
    run_dir = back_at_step_1(slim, tmp_path / "run").parent
    record = run_dir / "checkpoints/1" / POLICY_FOLDER / BASE
    base = read_base(record.parent)
    assert base is not None
    moved = Base(path=tmp_path / "gone", files=base.files)
    record.write_text(moved.to_json())
    write_checksums(run_dir / "checkpoints/1")

    with (
        pytest.raises(FileNotFoundError) as caught,
        toy_trainer(config_of(tmp_path / "gone"), small_policy(), run_dir, resumes=True),
    ):
        pass

    assert raises_one_line(caught.value, f"ln -s NEW_PLACE {tmp_path / 'gone'}")
    assert is_user_error(caught.value)


def test_cfg_stores_what_is_trained_once(policy_path: Path, tmp_path: Path):
    config = config_of(policy_path)
    config = replace(config, algo=replace(config.algo, objective="cfg"))
    folder = train(config, tmp_path / "run") / "1"

    state = load_file(folder / OPTIMIZER)

    (kept,) = [name for name in state if name.endswith(".weight")]
    assert state[kept].ndim == 1  # the unconditional branch, which the saved policy does not hold
    assert (
        len(load_file(folder / POLICY_FOLDER / "model.safetensors"))
        == len([name for name in state if name.endswith(".exp_avg")]) - 1
    )


def test_the_embedded_policy_is_no_base_and_is_saved_whole():
    assert find_base(TrainConfig(policy_path=BUILTIN), None) is None


def test_what_cannot_be_written_ends_the_run_at_the_next_step(policy_path: Path, tmp_path: Path):
    config, run_dir = config_of(policy_path), tmp_path / "run"
    with toy_trainer(config, load_policy(policy_path), run_dir) as (trainer, _):
        trainer.checkpoints.save_beginning()
        with no_file_larger_than(20_000), pytest.raises(OSError, match="checkpoints/1") as caught:
            trainer.train()

        assert raises_one_line(caught.value, "cannot write checkpoint")
        assert trainer.progress.step <= 2
        assert trainer.checkpoints.saved_step == 0
        # the file system has room again
        assert trainer.checkpoints.save_interrupted() == trainer.progress.step


def test_what_is_written_is_the_policy_of_its_step_whatever_is_trained_meanwhile(
    policy_path: Path, tmp_path: Path
):
    with toy_trainer(
        config_of(policy_path), policy := load_policy(policy_path), tmp_path / "run"
    ) as (trainer, _):
        trainer.train()
        saved = weights_of(policy)
        trainer.checkpoints.save()
        for parameter in policy.trainable_parameters(expert_only=True):
            parameter.data.zero_()
        trainer.checkpoints.settle()

    loaded = load_policy(tmp_path / "run/checkpoints/2" / POLICY_FOLDER)
    assert are_equal(weights_of(loaded), saved)
