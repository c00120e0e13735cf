"""One line of configuration, or one environment variable, chooses the runner.

python test_runner_selection.py
"""

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.config.environment import RUNNER_VARIABLE
from pi0.ript.config.load import read_config
from pi0.ript.config.schema import FeaturesConfig
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.scripts.train_ript_pi0 import create_env_runner, import_runner_classes
from tests.verification import run_checks

CONFIGS = Path(__file__).parent / "pi0/ript/config"
SERIAL = read_config(CONFIGS / "debug_train_pi0.yaml")
PARALLEL = read_config(CONFIGS / "debug_train_ript_vla.yaml")


class NoPolicy:
    """Never called: choosing a runner starts no simulator."""

    spec = ObservationSpec(cameras=("agentview",), height=8, width=8)

    def act(self, observations, tasks, seeds, sampling):
        raise AssertionError("no episode was requested")


@contextmanager
def variable(value):
    earlier = os.environ.pop(RUNNER_VARIABLE, None)
    os.environ.update({} if value is None else {RUNNER_VARIABLE: value})
    try:
        yield
    finally:
        os.environ.pop(RUNNER_VARIABLE, None)
        os.environ.update({} if earlier is None else {RUNNER_VARIABLE: earlier})


def chosen(config, value=None):
    with variable(value):
        return type(create_env_runner(config, NoPolicy()))


def test_both_runners_can_be_imported():
    """LIBEROEnvRunner and PI0LiberoRunner can both be imported."""
    assert import_runner_classes() == (LIBEROEnvRunner, PI0LiberoRunner)


def test_the_two_debug_configurations_choose_different_runners():
    """debug_train_pi0.yaml is serial, debug_train_ript_vla.yaml is parallel."""
    assert chosen(SERIAL) is LIBEROEnvRunner
    assert chosen(PARALLEL) is PI0LiberoRunner


def test_one_line_switches_any_configuration():
    """features.use_ript_vla_runner alone switches every shipped configuration."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        config = read_config(path)
        for is_parallel, runner in ((True, PI0LiberoRunner), (False, LIBEROEnvRunner)):
            features = FeaturesConfig(use_ript_vla_runner=is_parallel)
            assert chosen(replace(config, features=features)) is runner, path.name


def test_the_variable_overrides_the_configuration():
    """USE_RIPT_VLA_RUNNER wins over the configuration; unset and empty leave it alone."""
    assert chosen(SERIAL, "true") is PI0LiberoRunner
    assert chosen(PARALLEL, "OFF") is LIBEROEnvRunner
    assert chosen(PARALLEL, "") is PI0LiberoRunner


def test_a_wrong_variable_is_refused():
    """Anything else in USE_RIPT_VLA_RUNNER is an error that names what is allowed."""
    try:
        chosen(SERIAL, "maybe")
    except ValueError as error:
        assert "maybe" in str(error)
        assert "true" in str(error)
    else:
        raise AssertionError("it was accepted")


if __name__ == "__main__":
    sys.exit(run_checks(globals()))
