"""``ript sft`` on a LeRobotDataset: a whole run, one that is killed, and what is refused before anything is written."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0.checkpoint import load_policy, save_policy
from pi0.ript.engine import torch_settings
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.report.reporters import Reporters
from pi0.ript.scripts.report import main as report
from pi0.ript.scripts.sft import main
from pi0.ript.sft.run import request_hash
from pi0.ript.train.checkpoints.checksums import write_checksums
from pi0.ript.train.checkpoints.folder import STATE_FILE
from tests.datasets.lerobot_sets import KEYS, write_set
from tests.policy_parts import raises_one_line, small_policy

FLAGS = [
    "--num_steps", "8", "--frames_per_step", "4", "--warmup_steps", "2", "--lr", "1e-3",
    "--save_every", "2", "--held_out_every", "3", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_settings, "MAX_THREADS", 1)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small policy and a small data set, as flags."""
    folder = tmp_path_factory.mktemp("sft")
    save_policy(small_policy(), folder / "policy")
    write_set(folder / "set", is_video=True)
    return ["--policy", str(folder / "policy"), "--data", str(folder / "set")]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_run_leaves_policy_metrics_checkpoints_and_page(given: list[str], tmp_path: Path):
    out = tmp_path / "out"

    main([*given, "--output_dir", str(out), *FLAGS, "--held_out", "2:", "--statistics", "data"])

    policy, old = load_policy(out), load_policy(given[1])
    assert not np.array_equal(policy.codec.stats.state["mean"], old.codec.stats.state["mean"])
    assert (old.card.norm_stats_of, policy.card.norm_stats_of) == ("checkpoint", "data")
    assert set(policy.codec.stats.actions) >= {"mean", "std", "q01", "q99"}
    lines = read_metrics(out / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["step"] for line in lines if "sft/held_out_loss" in line] == [3, 6, 8]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["6", "8", "last"]
    assert weights(out / "checkpoints/8/pretrained_model") == weights(out)
    page = (out / "report.html").read_text()
    assert "flow matching on demonstrations" in page
    assert "sft/held_out_loss" in page
    (out / "report.html").unlink()
    report([str(out)])
    assert (out / "report.html").is_file()


def test_frozen_weights_stay_and_statistics_are_the_policys(given: list[str], tmp_path: Path):
    out = tmp_path / "out"

    main([*given, "--output_dir", str(out), *FLAGS, "--num_steps", "2", "--episodes", "0:1"])

    before, after = load_policy(given[1]), load_policy(out)
    assert after.codec.stats.digest == before.codec.stats.digest
    for name, parameter in after.network.named_parameters():
        is_same = bool((parameter == before.network.get_parameter(name)).all())
        assert is_same or not name.startswith("core.model.vlm."), name


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["lora", "all"])
def test_killed_and_resumed_it_has_the_bits_that_it_would_have_had(
    given: list[str], tmp_path: Path, trained: str
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = [*FLAGS, "--num_steps", "40", "--train", trained, "--statistics", "data"]
    main([*given, "--output_dir", str(whole), *flags])

    command = [sys.executable, "-m", "pi0.ript.scripts.sft", *given, "--output_dir", str(killed)]
    one_core = [shutil.which("taskset") or "taskset", "--cpu-list", "0"]  # one thread, as here
    process = subprocess.Popen([*one_core, *command, *flags], stderr=subprocess.DEVNULL)
    try:
        wait_for(killed / "checkpoints/4", process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (killed / "model.safetensors").exists()
    main(["--resume", str(killed)])

    for name in ("model.safetensors", "policy.json", "norm_stats.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()

    def numbers(folder: Path) -> list[dict]:
        lines = read_metrics(folder / "metrics.jsonl")
        return [{k: v for k, v in line.items() if k.startswith(("step", "sft/"))} for line in lines]

    assert numbers(killed) == numbers(whole)


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refused(argv: list[str], *parts: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        main(argv)
    assert raises_one_line(found.value, *parts), found.value


def test_a_plan_needs_no_data_and_says_what_a_card_holds(given: list[str], capsys):
    main([*given[:2], "--plan", "l4"])

    said = capsys.readouterr().out
    assert "of 24.00 GiB: fits" in said
    assert "each checkpoint" in said


def test_a_plan_is_of_a_policy_that_is_given(given: list[str]):
    with pytest.raises(ValueError, match="required: --policy"):
        main([*given[2:], "--plan"])


def test_the_policy_is_the_running_mean_unless_it_is_switched_off(given: list[str], tmp_path: Path):
    for name, flags in (("mean", []), ("last", ["--ema_decay", "0"])):
        main([*given, "--output_dir", str(tmp_path / name), *FLAGS, *flags])

    # the same learning, other weights to take away
    losses = [
        [line["sft/loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("mean", "last")
    ]
    assert losses[0] == losses[1]
    assert weights(tmp_path / "mean") != weights(tmp_path / "last")


def test_a_mean_of_adapters_is_refused(given: list[str], tmp_path: Path):
    flags = ["--train", "lora", "--ema_decay", "0.9"]
    refused([*given, "--output_dir", str(tmp_path / "out"), *flags], "--ema_decay", "leave one out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_something_is_wrong(given: list[str], tmp_path: Path):
    out = tmp_path / "out"
    flags = [*given, "--output_dir", str(out), *FLAGS]

    refused([*flags, "--episodes", "3:"], "--episodes 3: chooses no episode", "which has 3")
    refused([*flags, "--episodes", "1:2", "--held_out", "1:"], "leaves nothing of --episodes 1:2")
    refused([*flags, "--task_weights", "1"], "task_weights has 1 numbers for 2 tasks")
    refused([*flags, "--override", "cameras=[frontview]"], "no images of camera 'frontview'")
    refused([*flags, "--num_steps", "0"], "--num_steps must be >= 1, got 0")
    refused(given, "the following arguments are required: --output_dir")
    refused(["--resume", str(out)], "nothing to resume", "sft.json does not exist")
    refused(["--resume", str(out), "--lr", "1"], "no other flag goes with it")
    assert not out.exists()


def test_a_directory_that_holds_a_run_is_left_alone(given: list[str], tmp_path: Path):
    (tmp_path / "sft.json").write_text("{}")
    (tmp_path / "checkpoints/4").mkdir(parents=True)

    refused(
        [*given, "--output_dir", str(tmp_path), *FLAGS], "holds a fine-tuning already", "--resume"
    )

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "sft.json"]
    assert (tmp_path / "sft.json").read_text() == "{}"


def test_an_image_that_cannot_be_read_ends_the_run_in_one_line_and_it_can_be_begun_again(
    given: list[str], tmp_path: Path
):
    folder, out = write_set(tmp_path / "set"), tmp_path / "out"
    data = folder / "data/chunk-000/file-000.parquet"
    content = data.read_bytes()
    flags = [*given[:2], "--data", str(folder), "--output_dir", str(out), *FLAGS]
    table = pq.read_table(data)
    rows = [{**row, "bytes": b"no image"} for row in table[KEYS[0]].to_pylist()]
    kind = table.schema.field(KEYS[0]).type
    number = table.column_names.index(KEYS[0])
    pq.write_table(table.set_column(number, KEYS[0], pa.array(rows, kind)), data)

    refused(flags, str(data), f"column {KEYS[0]} holds no image in row")
    assert not (out / "checkpoints").exists()
    data.write_bytes(content)
    main([*flags, "--num_steps", "2"])
    assert len(read_metrics(out / "metrics.jsonl")) == 2


def test_a_folder_that_holds_a_policy_is_left_alone(given: list[str], tmp_path: Path):
    save_policy(small_policy(), tmp_path)
    before = weights(tmp_path)

    refused([*given, "--output_dir", str(tmp_path), *FLAGS], "holds a policy", "--output_dir")

    assert weights(tmp_path) == before


def test_a_run_whose_first_checkpoint_could_not_be_written_is_begun_again(
    given: list[str], tmp_path: Path
):
    (tmp_path / "sft.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()

    main([*given, "--output_dir", str(tmp_path), *FLAGS, "--num_steps", "2"])

    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_whatever_ends_it_leaves_the_steps_that_were_taken(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def log(_: Reporters, step: int, __: object) -> None:
        if step == 3:
            raise OSError("no space left on the disk")

    monkeypatch.setattr(Reporters, "log", log)
    out = tmp_path / "out"

    with pytest.raises(OSError, match="no space left"):
        main([*given, "--output_dir", str(out), *FLAGS, "--save_every", "0"])

    assert (out / "checkpoints/3").is_dir()


def test_settings_that_were_changed_by_hand_are_noticed(given: list[str], tmp_path: Path):
    out = tmp_path / "out"
    main([*given, "--output_dir", str(out), *FLAGS, "--num_steps", "2"])
    request = json.loads((out / "sft.json").read_text())
    (out / "sft.json").write_text(json.dumps(request | {"lr": "fast"}))

    refused(["--resume", str(out)], "of a fine-tuning with other settings than sft.json says")


def test_a_run_from_before_a_flag_existed_goes_on(given: list[str], tmp_path: Path):
    out = tmp_path / "out"
    main([*given, "--output_dir", str(out), *FLAGS, "--num_steps", "2"])
    request = json.loads((out / "sft.json").read_text())
    del request["augment"]
    (out / "sft.json").write_text(json.dumps(request))
    checkpoint = out / "checkpoints" / "2"
    state = json.loads((checkpoint / STATE_FILE).read_text())
    state["config_hash"] = request_hash(request)
    (checkpoint / STATE_FILE).write_text(json.dumps(state))
    write_checksums(checkpoint)

    main(["--resume", str(out)])

    assert len(read_metrics(out / "metrics.jsonl")) == 2
