"""What can be known of a run is known before anything is made; the first error says what to do."""

from dataclasses import replace
from pathlib import Path

import pytest

from pi0.formats.folder import Choices
from pi0.ript.config.base import ConfigError
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.diagnose import run_checks
from pi0.ript.diagnose.checkpoint import check_checkpoint
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.run_checks import check_policy, check_run, require
from pi0.ript.env.libero.versions import VERIFIED
from pi0.ript.env.resources import read_machine

STOVE = ("libero_goal", 7)


@pytest.fixture(scope="module")
def diagnosis():
    return check_checkpoint("builtin", Choices())


def errors(findings):
    return [f"{f.name}: {f.text}" for f in findings if f.status == "error"]


def test_a_run_that_can_begin_has_no_errors_and_leaves_nothing(tmp_path: Path, diagnosis):
    findings = list(check_run([STOVE], tmp_path / "runs", diagnosis, TrainConfig()))

    assert errors(findings) == []
    assert {"simulator", "LIBERO", "rendering", "disk", "policy", "cameras", "instructions"} <= {
        f.name for f in findings
    }
    assert list(tmp_path.iterdir()) == []


def test_another_simulator_is_found_before_one_is_started(tmp_path: Path, diagnosis, monkeypatch):
    monkeypatch.setitem(VERIFIED, "mujoco", "0.0.1")

    [error] = errors(check_run([STOVE], tmp_path, diagnosis, TrainConfig()))

    assert error.startswith("simulator: mujoco ")
    assert error.endswith("type: pip install mujoco==0.0.1")


def test_an_instruction_too_long_for_the_policy_is_found_whichever_task_has_it(diagnosis):
    contents = diagnosis.contents
    card = replace(contents.card, max_prompt_tokens=7)
    tasks = [STOVE, ("libero_goal", 0), ("libero_10", 3)]

    [error] = errors(check_policy(card, contents.tokenizer, tasks))

    assert "open the middle drawer" in error
    assert errors(check_policy(card, contents.tokenizer, [STOVE])) == []


def test_a_camera_that_no_scene_has_is_found(diagnosis):
    contents = diagnosis.contents
    card = replace(contents.card, cameras=("agentview", "wrist"))

    [error] = errors(check_policy(card, contents.tokenizer, [STOVE]))

    assert error.startswith("cameras: no LIBERO scene has a camera 'wrist'")


def test_the_first_error_stops_and_warnings_before_it_are_logged(caplog):
    warning = Finding(name="disk", status="warning", text="little", fix="free some")
    first = Finding(name="gl", status="error", text="broken", fix="mend it")
    second = Finding(name="wandb", status="error", text="unset X", fix="do what the line says")

    with pytest.raises(ConfigError, match=r"^broken; mend it$"):
        require([warning, first, second])
    assert caplog.messages == ["disk: little; free some"]
    with pytest.raises(ConfigError, match=r"^unset X$"):
        require([second])


def test_replay_that_memory_cannot_hold_ends_a_run_before_it_begins(
    tmp_path: Path, diagnosis, monkeypatch
):
    # three steps of 2,000 groups would take far more than the 2 GiB of this machine, and one step too
    algo = AlgoConfig(replay_steps=3, demo_batch_size=2000)
    machine = replace(read_machine(), memory_bytes=2 * 2**30)
    monkeypatch.setattr(run_checks, "read_machine", lambda: machine)

    [finding] = [
        f
        for f in check_run([STOVE], tmp_path, diagnosis, TrainConfig(algo=algo))
        if f.name == "replay"
    ]

    assert finding.status == "error"
    assert finding.text.startswith("samples of 3 earlier steps take up to ")
    assert finding.text.endswith(" of 2.15 GB of memory")
    assert finding.fix == "--algo.replay_steps 0"
    with pytest.raises(ConfigError, match=r"; --algo\.replay_steps 0"):
        require([finding])


def test_replay_that_fits_says_what_it_takes(tmp_path: Path, diagnosis):
    config = TrainConfig(algo=AlgoConfig(replay_steps=2))
    names = {f.name: f.status for f in check_run([STOVE], tmp_path, diagnosis, config)}
    assert names["replay"] == "ok"
    assert "replay" not in {f.name for f in check_run([STOVE], tmp_path, diagnosis, TrainConfig())}
