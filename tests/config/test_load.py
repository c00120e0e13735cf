"""Command line and YAML become one frozen configuration, or one line that says what to type."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import ELSEWHERE, known_keys
from pi0.ript.config.load import load_config, load_launch, read_config, save_config, to_yaml
from pi0.ript.config.schema import TrainConfig

SHIPPED = sorted((Path(__file__).parents[2] / "pi0/ript/config").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a configuration file and gives its command line."""

    def write_file(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return ["--config_path", str(path)]

    return write_file


def message_of(argv):
    with pytest.raises(ConfigError) as caught:
        load_config(argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_config_loads(path):
    assert load_config(["--config_path", str(path)]).exp_name == path.stem


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("algo.learning_rate", "algo.lr"),
        ("num_envs", "task.num_parallel_envs"),
        ("algo.epochs", "algo.num_epochs"),
        ("algo.value.epoch", "algo.value.epochs"),  # misspelt
        ("training.K", "algo.rloo_batch_size"),
    ],
)
def test_a_setting_is_known_by_the_names_that_other_trainers_give_it(written, meant):
    message = message_of(["--config_path", str(SHIPPED[0]), f"--{written}=1"])
    assert message == f"unknown key {written!r}; did you mean {meant!r}?"


def test_every_setting_with_other_names_exists():
    assert set(ELSEWHERE) <= set(known_keys(TrainConfig))


def test_the_two_debug_configs_differ_only_in_runner_slots_and_name():
    serial, parallel = (
        to_yaml(read_config(path)).splitlines() for path in SHIPPED if "debug" in path.name
    )
    differences = {line.split(":")[0].strip() for line in set(serial) ^ set(parallel)}
    assert differences == {"exp_name", "num_parallel_envs", "use_ript_vla_runner"}


def test_missing_keys_take_the_defaults_of_the_schema(write):
    assert load_config(write("exp_name: mine")) == TrainConfig(exp_name="mine")


def test_a_section_without_keys_takes_its_defaults(write):
    assert load_config(write("algo:\n")) == TrainConfig()


def test_config_cannot_be_changed_after_loading(write):
    config = load_config(write("exp_name: mine"))
    with pytest.raises(FrozenInstanceError):
        config.exp_name = "other"


@pytest.mark.parametrize("text", ["1e-5", "'1e-5'", "0.00001", "1.0e-5"])
def test_learning_rate_is_a_float_however_it_is_written(write, text):
    assert load_config(write(f"algo:\n  lr: {text}\n")).algo.lr == 1e-5


def test_task_index_zero_stays_a_number_and_a_name_stays_text(write):
    config = load_config(write("task:\n  task_name: 0\n  task_names_to_use: [3, open_it]\n"))
    assert config.task.task_name == 0
    assert config.task.task_names_to_use == (3, "open_it")


@pytest.mark.parametrize(
    "flags",
    [
        ["--task.num_parallel_envs", "4"],
        ["--task.num_parallel_envs=4"],
        ["--override", "task.num_parallel_envs=4"],
        ["--override", "algo.lr=1e-6", "--override=task.num_parallel_envs=4"],
        ["--task.num_parallel_envs=2", "--task.num_parallel_envs=4"],  # the last one wins
    ],
)
def test_override_beats_the_file(write, flags):
    config = load_config(write("task:\n  num_parallel_envs: 1\n") + flags)
    assert config.task.num_parallel_envs == 4


def test_override_beats_a_file_with_dotted_keys(write):
    config = load_config([*write("training.seed: 1\nalgo:\n  lr: 1e-6\n"), "--training.seed", "2"])
    assert (config.training.seed, config.algo.lr) == (2, 1e-6)


@pytest.mark.parametrize("written", ["32", '"32"'])
def test_a_choice_that_looks_like_a_number_needs_no_quotes(write, written):
    file = write(f"policy:\n  overrides:\n    prompt_state: {written}\n")
    assert load_config(file).policy.overrides.prompt_state == "32"

    flag = f"--policy.overrides.prompt_state={written}"
    assert load_config([*write("{}"), flag]).policy.overrides.prompt_state == "32"


def test_override_keeps_the_other_keys_of_its_section(write):
    config = load_config([*write("algo:\n  num_epochs: 7\n"), "--algo.lr", "1e-6"])
    assert (config.algo.num_epochs, config.algo.lr) == (7, 1e-6)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--exp_name=5", "5"),  # text fields take the command line as it stands
        ("--exp_name=true", "true"),
        ("--exp_name=a: b", "a: b"),
        ("--exp_name=[a", "[a"),  # no YAML
        ("--norm_stats_path=null", None),
    ],
)
def test_text_override_needs_no_quotes(write, flag, expected):
    config = load_config([*write("{}"), flag])
    assert expected in (config.exp_name, config.norm_stats_path)


def test_list_override_is_written_as_yaml(write):
    config = load_config([*write("{}"), "--task.task_names_to_use=[1, put_it]"])
    assert config.task.task_names_to_use == (1, "put_it")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("algo:\n  lr: fast", ["algo.lr", "'fast'", "a number"]),
        ("algo:\n  lr: .nan", ["algo.lr", "nan", "a number"]),
        ("algo:\n  lr: true", ["algo.lr", "True", "a number"]),
        ("algo:\n  num_epochs: 1.5", ["algo.num_epochs", "1.5", "a whole number"]),
        ("algo:\n  num_epochs: true", ["algo.num_epochs", "True", "a whole number"]),
        ("algo:\n  num_epochs:", ["algo.num_epochs", "None", "a whole number"]),
        ("logging:\n  tensorboard: yes", ["logging.tensorboard", "'yes'", "true or false"]),
        ("logging:\n  tensorboard: 1", ["logging.tensorboard", "1", "true or false"]),
        ("exp_name: 5", ["exp_name", "5", "text"]),
        ("env:\n  backend: proces", ["env.backend", "'proces'", "inline", "mean 'process'"]),
        ("task:\n  task_names_to_use: abc", ["task.task_names_to_use", "'abc'", "a list"]),
        ("task:\n  task_names_to_use: [1.5]", ["task.task_names_to_use[0]", "1.5"]),
        ("task:\n  task_name: 1.5", ["task.task_name", "1.5", "text or a whole number or null"]),
        ("algo: 3", ["algo", "section", "3"]),
        ("[1, 2]", ["section", "[1, 2]"]),
        ("policy:\n  batch_size: 0", ["policy.batch_size", ">= 1 or auto", "0"]),
        (
            "policy: {compile: true, cuda_graphs: true}",
            ["policy.compile", "policy.cuda_graphs", "set one to false"],
        ),
        ("policy:\n  batch_size: al", ["policy.batch_size", "al", "auto"]),
        ("algo:\n  rloo_batch_size: 0", ["algo.rloo_batch_size", ">= 1", "0"]),
        ("task:\n  num_parallel_envs: 0", ["task.num_parallel_envs", ">= 1", "0"]),
        ("lr: 1", ["'lr'", "'algo.lr'"]),
        ("alog:\n  lr: 1", ["'alog'", "'algo'"]),
        ("algo:\n  lr: 1\n  lr: 2", ["'lr'", "twice", "line 3"]),
        ("algo: {lr: 1", ["not valid YAML", "(line 2)"]),
        ("algo.lr: 1\nalgo: {lr: 2}", ["'algo.lr'", "twice"]),
        ("a: !!python/object/apply:os.getcwd []", ["not valid YAML", "python/object"]),
        ("seed: 1", ["'seed'", "'training.seed'"]),
        (
            "training: {overlap: true}\nalgo: {objective: nft}",
            ["training.overlap needs algo.objective flow_sde", "nft", "overlap to false"],
        ),
        (
            "training: {overlap: true}\nenv: {backend: inline}",
            ["training.overlap", "env.backend inline", "env.backend to process"],
        ),
    ],
)
def test_wrong_file_gives_one_line_with_key_value_and_what_is_allowed(write, text, parts):
    message = message_of(write(text + "\n"))
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--algo.lrr", "1"], ["'algo.lrr'", "'algo.lr'"]),
        (["--algo", "1"], ["algo", "section"]),
        (["--algo.lr.x", "1"], ["algo.lr"]),
        (["--algo.lr"], ["--algo.lr needs a value"]),
        (["--algo.lr", "--resume", "x"], ["--algo.lr needs a value"]),
        (["--override", "algo.lr"], ["--override", "algo.lr"]),
        (["algo.lr=1"], ["algo.lr", "--<key> VALUE"]),
        (["--logging.tensorboard=on"], ["logging.tensorboard", "'on'"]),
        (["--logging.tensorboard="], ["logging.tensorboard", "''"]),
        (["--task.task_names_to_use=[1"], ["task.task_names_to_use", "not valid YAML", "'[1'"]),
        (["--algo.lr", "{x}/y"], ["algo.lr", "not valid YAML", "'{x}/y'"]),
        (["--policy_path", "{x}/pi0"], ["policy_path", "placeholder", "'{x}/pi0'", "builtin"]),
    ],
)
def test_wrong_flag_gives_one_line(write, flags, parts):
    message = message_of(write("{}") + flags)
    assert [part for part in parts if part not in message] == []


def test_absent_file_names_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml.*by name.*quickstart"):
        load_config(["--config_path", "nowhere.yaml"])


def test_binary_file_is_one_line(tmp_path):
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in message_of(["--config_path", str(path)])


def test_print_config_prints_everything_and_leaves_with_zero(write, capsys):
    with pytest.raises(SystemExit) as left:
        load_config([*write("exp_name: mine"), "--algo.lr=1e-6", "--print_config"])
    assert left.value.code == 0
    printed = write(capsys.readouterr().out)
    assert load_config(printed).algo.lr == 1e-6


def test_saved_config_loads_back_equal(tmp_path):
    config = load_config(["--config_path", str(SHIPPED[0]), "--task.task_names_to_use=[1, '2']"])
    save_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_failed_save_leaves_the_earlier_file(tmp_path):
    (tmp_path / "config.yaml").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"config\.yaml"):
        save_config(TrainConfig(), tmp_path / "config.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    save_config(TrainConfig(exp_name="earlier"), tmp_path / "config.yaml")
    launch = load_launch(["--resume", str(tmp_path), "--training.num_train_steps=30"])
    assert launch.resume == tmp_path
    assert (launch.config.exp_name, launch.config.training.num_train_steps) == ("earlier", 30)


def test_resume_from_no_run_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run directory"):
        load_launch(["--resume", str(tmp_path)])


def test_wandb_without_its_package_is_refused_on_loading(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "c.yaml").write_text("logging: {wandb: true}\n")
    with pytest.raises(
        ConfigError, match=r"logging\.wandb=true needs .* pip install 'pi0-ript\[wandb\]'"
    ):
        load_config(["--config_path", str(tmp_path / "c.yaml")])
