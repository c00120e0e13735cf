"""Environment variables stand for settings: the file loses to them, the command line wins over them."""

import logging

import pytest

from pi0.ript.config.errors import ConfigError
from pi0.ript.config.load import load_launch


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("video: {save: false, dir: from_file}\n")
    return ["--config_path", str(path)]


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_debug_films_are_switched_on_by_variable(command, text):
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


def test_dump_of_processed_pictures_says_what_to_use_instead(command, caplog):
    logging.getLogger("pi0").propagate = True
    load_launch(command, {"DEBUG_SAVE_PROCESSED": "1"})
    assert caplog.messages == [
        "DEBUG_SAVE_PROCESSED has no effect; PI0_DEBUG_SAVE_VIDEO=1 films what the policy saw"
    ]
