"""Text that something else should have filled in is refused in every setting, not only where paths stand."""

import pytest

from pi0.ript.config.base import ConfigError, require_filled_in
from pi0.ript.config.load import load_config, to_plain
from pi0.ript.config.schema import TrainConfig
from pi0.ript.scripts.eval import parse


@pytest.mark.parametrize(
    "text",
    [
        "???",
        "${hydra:runtime.cwd}",
        "$(date +%F)/run",
        "%(name)s",
        "runs/<your name>",
        "$SCRATCH",
        "{run}/x",
    ],
)
def test_each_spelling_is_refused_with_key_and_value(text):
    with pytest.raises(ConfigError) as refusal:
        require_filled_in({"logging": {"wandb_name": text}})

    assert str(refusal.value).startswith(f"logging.wandb_name holds a placeholder, {text!r}; ")


@pytest.mark.parametrize(
    "key",
    ["exp_name", "policy_path", "video.dir", "policy.tokenizer_path", "task.benchmark_name",
     "logging.wandb_project"],
)  # fmt: skip
def test_every_text_setting_is_looked_at(key):
    with pytest.raises(ConfigError, match=f"^{key} holds a placeholder"):
        load_config(["quickstart", f"--{key}", "${x}"])


def test_a_list_is_looked_at_too():
    with pytest.raises(ConfigError, match=r"^task.task_names_to_use holds a placeholder"):
        load_config(["quickstart", "--task.task_names_to_use", "['${task}']"])


def test_a_home_that_no_shell_has_expanded_is_refused():
    with pytest.raises(ConfigError, match="write the folder in full"):
        require_filled_in({"output_dir": "~/runs"})
    require_filled_in({"output_dir": "/data/user~1/runs", "policy_path": "~/pi0"})


def test_the_flags_of_other_programs_are_looked_at():
    with pytest.raises(ConfigError, match=r"^--output_dir holds a placeholder, '\$OUT'"):
        parse(["--suite", "libero_goal", "--output_dir", "$OUT"])


def test_the_defaults_hold_none():
    require_filled_in(to_plain(TrainConfig()))
