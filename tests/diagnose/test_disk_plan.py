"""The bytes of checkpoints are known before a run: what is planned is what lies there."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from pi0.formats.folder import Choices, read_folder
from pi0.ript.build_learner import build_critic, build_engine, build_objective
from pi0.ript.build_policy import find_base
from pi0.ript.config.policy import LoraConfig, PolicyConfig
from pi0.ript.config.schema import AlgoConfig, TrainConfig, TrainingConfig
from pi0.ript.diagnose.disk_plan import CheckpointBytes, check_space, predict_checkpoints
from pi0.ript.diagnose.memory_plan import replay_bytes
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.replay import Replay
from pi0.ript.learner.update import update
from pi0.ript.train.checkpoints.replay_files import write_replay
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
from pi0.ript.train.checkpoints.store import save_checkpoint
from tests.disks import needs_root, small_disk
from tests.formats.checkpoints import reference_model, write_openpi
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy

ALGO = AlgoConfig(num_epochs=1, num_minibatches=1, lr=1e-3, warmup_steps=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of openpi in bfloat16."""
    folder = write_openpi(tmp_path_factory.mktemp("source") / "policy", reference_model())
    path = folder / "model.safetensors"
    save_file({name: each.bfloat16() for name, each in load_file(path).items()}, path)
    return folder


def written(folder: Path) -> int:
    """The bytes of all tensors below a folder."""
    files = [load_file(path) for path in folder.rglob("*.safetensors")]
    return sum(tensor.nbytes for tensors in files for tensor in tensors.values())


EXPERT = TrainConfig(algo=ALGO)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(EXPERT, id="expert"),
        pytest.param(replace(EXPERT, policy=PolicyConfig(train_expert_only=False)), id="all"),
        pytest.param(
            replace(EXPERT, policy=PolicyConfig(lora=LoraConfig(rank=2, targets="both"))), id="lora"
        ),
        pytest.param(replace(EXPERT, algo=replace(ALGO, objective="nft")), id="nft"),
        pytest.param(replace(EXPERT, algo=replace(ALGO, critic="value")), id="critic"),
        pytest.param(replace(EXPERT, algo=replace(ALGO, reference_weight=0.1)), id="reference"),
        pytest.param(replace(EXPERT, training=TrainingConfig(save_full_policy="all")), id="whole"),
    ],
)
def test_checkpoints_take_what_was_planned(config: TrainConfig, source: Path, tmp_path: Path):
    if config.policy.lora.rank:
        pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")
    config = replace(config, policy_path=str(source))
    policy = load_policy(source, keeps_masters=config.policy.trains_everything)
    engine, objective = build_engine(config, policy), build_objective(config.algo)
    finding = find_base(config, None)
    base = finding and finding.result()
    critic = build_critic(config, policy)

    def save(step: int, *, is_whole: bool) -> int:
        state = TrainingState(
            step=step, engine=engine.state(), sampler_position=0, counters={}, config_hash="",
            objective=objective.state(), critic={} if critic is None else critic.state(),
        )  # fmt: skip
        snapshot = PolicySnapshot.of(
            policy, base, is_whole=is_whole, has_changed=state.engine.num_steps > 0
        )
        return written(save_checkpoint(tmp_path, snapshot, state, keep=9))

    def learn() -> None:
        update(
            policy, engine, draw_batch(policy, 2), objective, config.algo, SAMPLING, 1,
            has_frozen_prefix=config.policy.has_frozen_prefix, critic=critic,
        )  # fmt: skip

    is_whole = config.training.save_full_policy == "all"
    first = save(0, is_whole=is_whole)
    learn()
    found = CheckpointBytes(
        first=first, each=save(1, is_whole=is_whole), last=save(2, is_whole=True)
    )

    planned = predict_checkpoints(config, read_folder(source, Choices()), max_steps=300)
    # AdamW counts its steps for each parameter, the critic its batches and steps
    counts = 4 * len(engine.state().tensors) + (0 if critic is None else 4 * 8 + 8)
    for name in ("first", "each", "last"):
        assert getattr(planned, name) == pytest.approx(getattr(found, name), abs=counts), name


def test_the_embedded_policy_is_whole_each_time():
    config = TrainConfig()

    planned = predict_checkpoints(
        config, read_folder(Path("pi0/builtin"), Choices()), max_steps=300
    )

    assert planned.each == planned.last > planned.first > 0


def test_replayed_samples_take_what_was_planned(tmp_path: Path):
    # one group of two episodes of one policy step each
    algo = replace(ALGO, rloo_batch_size=2, demo_batch_size=1, replay_steps=1)
    config = TrainConfig(algo=algo, policy=PolicyConfig(denoise_steps=4))
    policy, objective, replay = small_policy(), build_objective(algo), Replay(1)
    batch = replay.join(1, draw_batch(policy, 2), 2)
    update(
        policy, build_engine(config, policy), batch, objective, algo, SAMPLING, 1, has_frozen_prefix=True
    )  # fmt: skip
    replay.keep(1, batch, 2, objective)
    (tmp_path / "training_state").mkdir()

    write_replay(tmp_path, replay.kept, SINGLE_PROCESS)

    card = policy.card
    assert written(tmp_path) == replay_bytes(config, card, max_steps=card.execute_steps)
    contents = read_folder(Path("pi0/builtin"), Choices())
    with_it, without = (
        predict_checkpoints(c, contents, max_steps=300)
        for c in (config, replace(config, algo=replace(algo, replay_steps=0)))
    )
    more = replay_bytes(config, contents.card, max_steps=300)
    assert with_it.each - without.each == with_it.last - without.last == more > 0
    assert with_it.first == without.first


@needs_root
@pytest.mark.parametrize(("size", "status"), [("1m", "error"), ("8m", "warning")])
def test_too_little_disk_is_found_before_a_run(tmp_path: Path, size: str, status: str):
    planned = CheckpointBytes(first=0, each=10**6, last=2 * 10**6)
    with small_disk(tmp_path / "disk", size) as disk:
        finding = check_space(disk / "outputs", planned, keep=2)

    assert finding.status == status
    assert "a checkpoint takes 0.00 GB, the last one 0.00 GB, and 2 are kept" in finding.text
    assert "training.keep_checkpoints" in finding.fix


def test_a_run_has_those_on_the_disk_that_are_kept_and_the_one_being_written():
    # two of 3 bytes are kept while the last one of 7 is written
    assert CheckpointBytes(first=1, each=3, last=7).needed(keep=2) == 13
