"""Metrics reach wandb's own files without a network, under one identity however often a run is resumed."""

import json
import struct
import time

import pytest
from wandb.proto import wandb_internal_pb2

from pi0.ript.config.base import ConfigError
from pi0.ript.config.schema import LoggingConfig
from pi0.ript.report.wandb_log import WandbReporter, require_wandb

OFFLINE = LoggingConfig(wandb=True, wandb_project="p", wandb_mode="offline")
BLOCK, HEAD, FULL, LAST = 32768, 7, 1, 4


def payloads(data):
    """Yield the payloads of a file in the LevelDB log format, which begins with seven bytes of wandb's own.

    Blocks of 32 KiB; each part has a checksum (4 bytes), its length (2) and whether it is whole (1), the
    first (2), a middle (3) or the last one (4) of its payload.
    """
    offset, parts = HEAD, b""
    while offset + HEAD <= len(data):
        if BLOCK - offset % BLOCK < HEAD:
            offset += BLOCK - offset % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, offset)
        parts += data[offset + HEAD : offset + HEAD + length]
        offset += HEAD + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""


def records(run_dir):
    """Yield what wandb wrote, file by file in the order of writing."""
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        for payload in payloads(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(payload)
            yield record


def history(run_dir):
    for record in records(run_dir):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            yield {name: json.loads(value) for name, value in items.items()}


def log(run_dir, steps):
    run_dir.mkdir(exist_ok=True)
    reporter = WandbReporter(run_dir, OFFLINE, settings={"training": {"seed": 42}})
    for step in steps:
        reporter.log(step, {"rollout/success_rate": step / 10, "rollout/ended_by": "budget"})
    reporter.close()


def history_of(run_dir, num_steps):
    """The metrics by step, once wandb's own process has written them: it may end a moment after the program."""
    deadline = time.monotonic() + 20.0
    while len(steps := list(history(run_dir))) < num_steps and time.monotonic() < deadline:
        time.sleep(0.1)
    return steps


@pytest.mark.slow
def test_metrics_settings_and_identity_are_kept_offline(tmp_path):
    run_dir = tmp_path / "quick start_1"
    log(run_dir, [1, 2])
    steps = history_of(run_dir, num_steps=2)
    assert [(one["_step"], one["rollout/success_rate"]) for one in steps] == [(1, 0.1), (2, 0.2)]
    assert steps[0]["rollout/ended_by"] == "budget"
    log(run_dir, [3])
    runs = [r.run for r in records(run_dir) if r.WhichOneof("record_type") == "run"]
    assert {run.run_id for run in runs} == {"quick_start_1"}
    assert {run.project for run in runs} == {"p"}
    settings = {item.key: item.value_json for item in runs[0].config.update}
    assert json.loads(settings["training"]) == {"seed": 42}


@pytest.mark.parametrize("mode", ["offlin", "true", "0", "Online"])
def test_a_mode_that_does_not_exist_is_named_by_its_variable(mode):
    with pytest.raises(ConfigError, match=f"^WANDB_MODE must be one of .*, got '{mode}'"):
        require_wandb(LoggingConfig(wandb=True), {"WANDB_MODE": mode})


@pytest.mark.parametrize("key", [None, "short", "a key with blanks, which none has"])
def test_a_run_without_a_key_that_can_be_one_is_refused_with_the_ways_out(monkeypatch, key):
    monkeypatch.setenv("NETRC", "/dev/null")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)

    with pytest.raises(
        ConfigError, match=r"cannot log in .* 'wandb login', .*WANDB_API_KEY.* offline"
    ):
        require_wandb(LoggingConfig(wandb=True), {})


def test_what_needs_no_account_is_not_asked_for_one():
    require_wandb(OFFLINE, {})
    require_wandb(LoggingConfig(wandb=True), {"WANDB_MODE": "disabled"})
