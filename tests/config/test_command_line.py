"""A configuration is a file or one that comes with the package, by name; one line says what is wrong otherwise."""

from pathlib import Path

import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.command_line import (
    help_page,
    parse_arguments,
    program_name,
    purpose,
    shipped_configs,
)
from pi0.ript.config.decode import known_keys
from pi0.ript.config.load import load_config, load_launch, save_config
from pi0.ript.config.reference import all_settings
from pi0.ript.config.schema import TrainConfig

SHIPPED = shipped_configs()


def message_of(argv: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_shipped_configuration_is_known_by_its_name():
    assert {"quickstart", "libero_object", "debug_train_pi0", "debug_train_ript_vla"} <= set(
        SHIPPED
    )
    assert [name for name in SHIPPED if load_config([name]).exp_name != name] == []


@pytest.mark.parametrize(
    "argv", [["quickstart", "--algo.lr", "1e-6"], ["--algo.lr=1e-6", "quickstart"]]
)
def test_settings_may_stand_on_either_side_of_the_name(argv: list[str]):
    config = load_config(argv)
    assert (config.exp_name, config.algo.lr) == ("quickstart", 1e-6)


def test_a_name_is_the_file_of_the_package_wherever_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "quickstart").write_text("exp_name: mine\n")
    monkeypatch.chdir(tmp_path)

    assert load_config(["quickstart"]).exp_name == "quickstart"
    assert load_config(["--config_path", "quickstart"]).exp_name == "mine"


def test_a_resumed_run_takes_the_named_configuration_instead_of_its_own(tmp_path: Path):
    save_config(TrainConfig(exp_name="earlier"), tmp_path / "config.yaml")
    assert load_launch(["--resume", str(tmp_path), "quickstart"]).config.exp_name == "quickstart"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["quikstart"], ["'quikstart'", "mean 'quickstart'", "libero_object", "--config_path FILE"]),
        (["1e-6"], ["'1e-6'", "--config_path FILE", "--<key> VALUE"]),
        (["my.yaml"], ["'my.yaml'", "--config_path FILE"]),
        (["folder/quickstart"], ["'folder/quickstart'", "--config_path FILE"]),
        (["quickstart", "--config_path", "my.yaml"], ["quickstart", "my.yaml", "keep one"]),
        (["--config_path", "my.yaml", "quickstart"], ["quickstart", "my.yaml", "keep one"]),
        (["quickstart", "libero_object"], ["quickstart", "libero_object", "keep one"]),
        ([], ["--config_path is required", "quickstart"]),
    ],
)  # fmt: skip
def test_what_names_no_single_configuration_is_refused(argv: list[str], parts: list[str]):
    message = message_of(argv)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("flag", ["--check", "--print_config"])
@pytest.mark.parametrize("value", ["false", "true", ""])
def test_a_flag_that_takes_no_value_is_not_given_one(flag: str, value: str):
    message = message_of(["quickstart", f"{flag}={value}"])
    assert message.startswith(f"{flag} takes no value, got {value!r}")


@pytest.mark.parametrize(
    ("argv0", "name"),
    [
        ("/usr/bin/ript", "ript train"),
        ("/packages/pi0/ript/scripts/cli.py", "ript train"),
        ("pi0/ript/scripts/train_ript_pi0.py", "python pi0/ript/scripts/train_ript_pi0.py"),
    ],
)
def test_training_is_started_again_as_it_was_started(argv0: str, name: str):
    assert program_name(argv0) == name


def test_help_wins_over_what_follows():
    assert parse_arguments(["quickstart", "--help", "--algo.lr"]).is_help


def test_help_names_every_setting_and_what_each_shipped_configuration_is_for():
    page = help_page("ript train")
    words = " ".join(page.split())

    assert [
        key for key in (setting.key for setting in all_settings()) if f"  --{key}: " not in page
    ] == []
    assert [path.name for path in SHIPPED.values() if purpose(path) not in words] == []


def test_all_settings_are_the_keys_of_the_schema_without_its_sections():
    keys = known_keys(TrainConfig)
    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    assert sorted(setting.key for setting in all_settings()) == sorted(leaves)
