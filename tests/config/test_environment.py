"""One YAML line chooses the runner; the environment variable overrides it."""

import logging

import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.environment import RunnerChoice, choose_runner
from pi0.ript.config.load import load_launch
from pi0.ript.config.schema import EnvConfig, FeaturesConfig, TrainConfig, TrainingConfig


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("video: {save: false, dir: from_file}\n")
    return ["--config_path", str(path)]


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_debug_videos_are_switched_on_by_variable(command, text):
    video = load_launch(
        command, {"PI0_DEBUG_SAVE_VIDEO": text, "PI0_DEBUG_IMAGE_DIR": "a b"}
    ).config.video
    assert (video.save, video.dir) == (True, "a b")


@pytest.mark.parametrize("environ", [{}, {"PI0_DEBUG_SAVE_VIDEO": "", "PI0_DEBUG_IMAGE_DIR": ""}])
def test_unset_or_empty_means_no_opinion(command, environ):
    video = load_launch(command, environ).config.video
    assert (video.save, video.dir) == (False, "from_file")


def test_command_line_wins(command):
    launch = load_launch([*command, "--video.save", "false"], {"PI0_DEBUG_SAVE_VIDEO": "1"})
    assert not launch.config.video.save


def test_anything_else_is_an_error(command):
    with pytest.raises(ConfigError, match=r"PI0_DEBUG_SAVE_VIDEO must be one of 1, .*'maybe'"):
        load_launch(command, {"PI0_DEBUG_SAVE_VIDEO": "maybe"})


def test_dump_of_processed_images_says_what_to_use_instead(command, caplog):
    logging.getLogger("pi0").propagate = True
    load_launch(command, {"DEBUG_SAVE_PROCESSED": "1"})
    # pytest reads a logger that does not propagate by a handler of its own, and is then told twice
    assert list(dict.fromkeys(caplog.messages)) == [
        "DEBUG_SAVE_PROCESSED has no effect; PI0_DEBUG_SAVE_VIDEO=1 saves videos of what the policy observes"
    ]


def config(*, is_parallel):
    return TrainConfig(features=FeaturesConfig(use_ript_vla_runner=is_parallel))


@pytest.mark.parametrize(("is_parallel", "name"), [(True, "parallel"), (False, "serial")])
@pytest.mark.parametrize("environ", [{}, {"USE_RIPT_VLA_RUNNER": ""}, {"USE_RIPT_VLA_RUNNER": " "}])
def test_configuration_decides_where_the_variable_is_unset_or_empty(is_parallel, name, environ):
    choice = choose_runner(config(is_parallel=is_parallel), environ)
    assert choice == RunnerChoice(name=name, source="features.use_ript_vla_runner")


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize(
    ("text", "name"),
    [(text, "parallel") for text in ("1", "true", "YES", "On")]
    + [(text, "serial") for text in ("0", "False", "no", "OFF", " off ")],
)
def test_variable_wins(is_parallel, text, name):
    choice = choose_runner(config(is_parallel=is_parallel), {"USE_RIPT_VLA_RUNNER": text})
    assert choice == RunnerChoice(name=name, source="USE_RIPT_VLA_RUNNER")


@pytest.mark.parametrize("text", ["2", "parallel", "ture"])
def test_anything_else_in_the_variable_is_an_error(text):
    with pytest.raises(ConfigError, match=rf"USE_RIPT_VLA_RUNNER must be one of 1, .*'{text}'"):
        choose_runner(config(is_parallel=True), {"USE_RIPT_VLA_RUNNER": text})


@pytest.mark.parametrize("environ", [{}, {"USE_RIPT_VLA_RUNNER": "0"}])
def test_collecting_during_updates_needs_the_parallel_runner(environ):
    overlapped = TrainConfig(training=TrainingConfig(overlap=True))
    with pytest.raises(ConfigError, match=r"training\.overlap needs the parallel runner"):
        choose_runner(overlapped, environ)


@pytest.mark.parametrize("environ", [{}, {"USE_RIPT_VLA_RUNNER": "0"}])
def test_simulators_on_other_hosts_need_the_parallel_runner(environ):
    elsewhere = TrainConfig(env=EnvConfig(backend="ray"))
    with pytest.raises(ConfigError, match=r"env\.backend ray needs the parallel runner"):
        choose_runner(elsewhere, environ)
