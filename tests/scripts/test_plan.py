"""``ript plan`` on the embedded policy: what is printed before anything is loaded."""

from pathlib import Path

import pytest

from pi0.ript.config.load import load_config
from pi0.ript.config.schema import TaskConfig, TrainConfig
from pi0.ript.diagnose.memory_plan import Place, make_plan
from pi0.ript.env.resources import Sizing
from pi0.ript.scripts import plan
from tests.formats.checkpoints import reference_model, write_openpi
from tests.policy_parts import small_card

QUICKSTART = ["--config_path", "pi0/ript/config/quickstart.yaml"]
FLOW_SDE = ("--algo.objective", "flow_sde")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 300),
        # A task of another suite, and the suite that most of the tasks are of.
        ({"task_names_to_use": ("libero_10/0",)}, 520),
        ({"task_names_to_use": (7, "libero_object/0")}, 300),
        ({"task_names_to_use": ("libero_10/0",), "max_episode_length": 90}, 90),
        ({"benchmark_name": "libero_spatial"}, 280),
    ],
)
def test_the_longest_episode_is_that_of_any_task_to_train_on(changes: dict, expected: int):
    config = TrainConfig(task=TaskConfig(**changes))
    assert (
        plan.longest_episode(config, small_card(protocol="lerobot"), plan.resolve_tasks(config))
        == expected
    )


@pytest.mark.libero
def test_the_plan_for_a_cpu_has_one_kind_of_memory_and_fits(capsys):
    plan.main([*QUICKSTART, "--policy.device", "cpu"])
    text = capsys.readouterr().out
    for name in ("weights", "gradients", "optimizer", "activations", "prefix cache"):
        assert name in text
    assert text.count("together") == 1


@pytest.mark.libero
def test_the_plan_for_a_named_gpu_has_two_kinds_of_memory(capsys):
    plan.main([*QUICKSTART, "--gpu", "h200"])
    assert "of 141.00 GiB: fits" in capsys.readouterr().out


@pytest.mark.libero
def test_what_does_not_fit_comes_with_a_remedy(capsys):
    plan.main([*QUICKSTART, "--gpu", "t4", "--algo.micro_batch_size", "20000",
               "--algo.demo_batch_size", "2000"])  # fmt: skip
    text = capsys.readouterr().out
    assert "DOES NOT FIT" in text
    assert "--algo.micro_batch_size 10000" in text


def quickstart_plan(*flags: str) -> dict[str, int]:
    """The plan of the quickstart with one slot and episodes of 100 control steps: bytes by item."""
    config = load_config([*QUICKSTART, *flags])
    contents = plan.read_checkpoint(config)
    sizing = Sizing(num_slots=1, num_workers=1, scenes_per_worker=1, reason="")
    found = make_plan(config, contents.card, contents.config, sizing, 100, Place())
    return {item.name: item.num_bytes for item in found}


@pytest.mark.libero
def test_overlap_takes_what_is_trained_twice_more_and_the_prefixes_of_a_call():
    without, ahead = (
        quickstart_plan(*FLOW_SDE, "--algo.replay_steps", "0", "--training.overlap", overlap)
        for overlap in ("false", "true")
    )

    older, call = ahead.pop("older weights"), ahead.pop("policy call")
    # The next step is collected while this one is learned from.
    assert ahead.pop("rollout store") == 2 * without.pop("rollout store")
    assert ahead == without
    assert older == 2 * ahead["gradients"]
    assert 0 < call < 0.2 * older


@pytest.mark.libero
def test_replay_takes_samples_of_earlier_steps_and_room_to_learn_from_them():
    without, three = (
        quickstart_plan(*FLOW_SDE, "--algo.replay_steps", steps) for steps in ("0", "3")
    )
    imitated = quickstart_plan("--algo.objective", "bc", "--algo.replay_steps", "3")

    assert "replayed samples" not in without
    assert imitated["replayed samples"] < three["replayed samples"]  # no means of transitions
    # what is kept of a sample is about what an episode has of a policy step, without spare groups
    assert (
        2 * without["rollout store"]
        < three.pop("replayed samples")
        < 3.3 * without["rollout store"]
    )
    assert three.pop("batch") == 4 * without.pop("batch")
    assert three.pop("prefix cache") == 4 * without.pop("prefix cache")
    assert three == without


@pytest.mark.libero
@pytest.mark.parametrize(
    ("flags", "gpu", "expected"),
    [
        ([], "h200", "bfloat16, although the weights are stored in float32"),
        ([], "t4", "float32 without TF32"),
        (["--policy.overrides.dtype", "float32"], "h200", "float32 without TF32"),
    ],
)
def test_a_float32_checkpoint_is_planned_in_the_precision_of_the_gpu(
    flags: list[str], gpu: str, expected: str, tmp_path: Path, capsys
):
    folder = write_openpi(tmp_path / "pi0", reference_model())

    plan.main([*QUICKSTART, "--policy_path", str(folder), "--gpu", gpu, *flags])

    assert f"precision on the GPU: {expected}" in capsys.readouterr().out
