"""The main script: choosing a runner, refusing bad input, and what importing it does."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.config.base import ConfigError
from pi0.ript.config.environment import RUNNER_VARIABLE
from pi0.ript.config.load import read_config
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.scripts.train_ript_pi0 import create_env_runner, import_runner_classes, main
from tests.programs import run_program

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "pi0/ript/config"
SCRIPT = ROOT / "pi0/ript/scripts/train_ript_pi0.py"
PARALLEL_MODULE = "pi0.ript.env.pi0_libero_runner_ript_vla"
SERIAL_MODULE = "pi0.ript.env.pi0_libero_runner"


class StillPolicy:
    """Never moves; enough to build a runner."""

    spec = ObservationSpec(cameras=("agentview",), height=8, width=8)

    def act(
        self,
        observations: list[Observation],
        tasks: list[str],
        seeds: list[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        del tasks, seeds
        still = Chunk(
            actions=np.zeros((10, 7), np.float32),
            chain=np.zeros((sampling.num_steps + 1, 10, 7), np.float32),
            is_stochastic=sampling.noise_scale > 0,
        )
        return [still] * len(observations)


SERIAL = read_config(CONFIGS / "debug_train_pi0.yaml")
PARALLEL = read_config(CONFIGS / "debug_train_ript_vla.yaml")


@pytest.fixture(autouse=True)
def _unset_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(RUNNER_VARIABLE, raising=False)


def test_both_runner_classes_can_be_imported():
    assert import_runner_classes() == (LIBEROEnvRunner, PI0LiberoRunner)


def test_the_configuration_chooses_the_runner_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
):
    with caplog.at_level(logging.INFO, logger="pi0"):
        runner = create_env_runner(PARALLEL, StillPolicy())

    assert type(runner) is PI0LiberoRunner
    assert runner.num_parallel_envs == 2
    assert runner.rollouts_per_env == PARALLEL.algo.rloo_batch_size
    announced = [r.message for r in caplog.records if r.message.startswith("runner:")]
    [line] = announced
    assert line.startswith(
        "runner: PI0LiberoRunner, chosen by features.use_ript_vla_runner: 2 simulator slots on "
    )
    assert type(create_env_runner(SERIAL, StillPolicy())) is LIBEROEnvRunner


@pytest.mark.parametrize(("value", "expected"), [("1", PI0LiberoRunner), ("off", LIBEROEnvRunner)])
def test_the_environment_variable_overrides_the_configuration(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: type
):
    monkeypatch.setenv(RUNNER_VARIABLE, value)
    config = SERIAL if expected is PI0LiberoRunner else PARALLEL

    assert type(create_env_runner(config, StillPolicy())) is expected


@pytest.mark.parametrize(
    ("config", "broken", "used"),
    [(PARALLEL, PARALLEL_MODULE, LIBEROEnvRunner), (SERIAL, SERIAL_MODULE, PI0LiberoRunner)],
)
def test_a_runner_that_cannot_be_imported_is_replaced_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    config: object,
    broken: str,
    used: type,
):
    # None in sys.modules makes the real import statement fail, as a broken installation would.
    monkeypatch.setitem(sys.modules, broken, None)

    runner = create_env_runner(config, StillPolicy())

    assert type(runner) is used
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "features.use_ript_vla_runner" in warnings[0]
    assert broken in warnings[0]


def test_without_any_runner_both_reasons_are_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, PARALLEL_MODULE, None)
    monkeypatch.setitem(sys.modules, SERIAL_MODULE, None)

    with pytest.raises(RuntimeError, match="no usable runner") as caught:
        create_env_runner(PARALLEL, StillPolicy())

    assert PARALLEL_MODULE in str(caught.value)
    assert f"{SERIAL_MODULE} " in str(caught.value)


def test_ranks_other_than_0_do_not_announce(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="pi0"):
        create_env_runner(PARALLEL, StillPolicy(), rank=1, world_size=2)

    assert not [r for r in caplog.records if r.message.startswith("runner:")]


def test_importing_everything_from_the_script_starts_nothing():
    program = (
        "import multiprocessing, sys, threading\n"
        "from pi0.ript.scripts.train_ript_pi0 import *\n"
        "assert not multiprocessing.active_children()\n"
        "assert threading.active_count() == 1\n"
        "create_env_runner, import_runner_classes\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--task.num_paralel_envs", "4"], ["task.num_paralel_envs", "task.num_parallel_envs"]),
        (["--task.num_parallel_envs", "0"], ["task.num_parallel_envs", ">= 1", "0"]),
        (["--task.num_parallel_envs", "many"], ["task.num_parallel_envs", "many"]),
        (["--task.benchmark_name", "libero_gaol"], ["libero_gaol", "libero_goal"]),
        (["--task.task_name", "turn_on_the_stov"], ["turn_on_the_stov", "turn_on_the_stove"]),
        (["--task.task_name", "10"], ["10"]),
        (["--policy_path", "nowhere"], ["nowhere"]),
        (["--norm_stats_path", "nowhere.json"], ["nowhere.json"]),
        (["--algo.rloo_batch_size", "0"], ["algo.rloo_batch_size", ">= 1", "0"]),
        (["--resume", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    tmp_path: Path, arguments: list[str], named: list[str]
):
    arguments = [*_flags(tmp_path), *arguments]
    done = run_program("pi0.ript.scripts.train_ript_pi0:main", arguments, cwd=tmp_path)

    _assert_refused(done, named)
    assert not list(tmp_path.iterdir())


def test_the_script_itself_refuses_bad_input_in_one_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, SCRIPT, *_flags(tmp_path), "--algo.rloo_batch_size", "0"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False,
    )  # fmt: skip

    _assert_refused(done, ["algo.rloo_batch_size", ">= 1", "0"])
    assert not list(tmp_path.iterdir())


def _flags(folder: Path) -> list[str]:
    config = CONFIGS / "debug_train_ript_vla.yaml"
    return ["--config_path", str(config), "--output_dir", str(folder / "out")]


def _assert_refused(done: subprocess.CompletedProcess[str], named: list[str]) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in named:
        assert word in errors[0]


@pytest.mark.libero
def test_an_unwritable_run_directory_is_one_line_and_exit_2(tmp_path: Path):
    (tmp_path / "out").write_text("a file where a folder should be")

    done = run_program(
        "pi0.ript.scripts.train_ript_pi0:main",
        ["--config_path", CONFIGS / "debug_train_pi0.yaml", "--output_dir", tmp_path / "out"],
        tmp_path,
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "out") in done.stderr


@pytest.mark.libero
@pytest.mark.slow
def test_check_prints_what_is_known_of_a_run_and_makes_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    main(["quickstart", "--check"])

    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert {"LIBERO:", "disk:", "policy:", "instructions:", "rendering:"} <= {
        line.split()[1] for line in lines
    }
    assert list(tmp_path.iterdir()) == []


def test_check_ends_with_the_number_of_errors_and_the_first(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pi0.ript.scripts.parts.check_run.check_rendering", lambda _: [])

    with pytest.raises(ConfigError, match=r"1 of \d+ checks failed, first cameras: .*'wrist'"):
        main(["quickstart", "--check", "--policy.overrides.cameras", "[wrist]"])
    assert "error     cameras: no LIBERO scene has a camera 'wrist'" in capsys.readouterr().out
