"""A resumed run keeps what decides its episodes and weights; what its machine can bear may change."""

import hashlib
from dataclasses import replace

import pytest

from pi0.ript.config.env import EnvConfig, RayConfig
from pi0.ript.config.load import to_yaml
from pi0.ript.config.policy import PolicyConfig
from pi0.ript.config.same_run import ADDED_LATER, CHANGEABLE, config_hash, is_same_run
from pi0.ript.config.schema import AlgoConfig, TaskConfig, TrainConfig
from pi0.ript.config.yaml_text import dump_yaml, parse_yaml

CONFIG = TrainConfig()
OTHER = {
    "training.num_train_steps": 21,
    "training.memory_limit_gb": 8.0,
    "training.save_full_policy": "all",
    "rollouts.save": "all",
    "task.num_parallel_envs": 3,
    "env.num_workers": 3,
    "env.max_scenes": 1,
    "env.egl_device": 2,
    "env.exactness": "warn",
    "env.timeout_s": 7.0,
    "env.max_restarts": 0,
    "distributed.strategy": "fsdp",
    "distributed.timeout_seconds": 7.0,
}


def with_other(config, key, value):
    section, name = key.split(".")
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def test_every_setting_that_may_change_is_tried_here():
    assert sorted(OTHER) == sorted(CHANGEABLE)


@pytest.mark.parametrize("key", CHANGEABLE)
def test_the_run_stays_the_same_where_its_length_or_its_machine_changes(key):
    other = with_other(CONFIG, key, OTHER[key])

    assert other != CONFIG
    assert is_same_run(config_hash(CONFIG), other)
    assert is_same_run(config_hash(other), CONFIG)


def test_a_run_whose_simulators_live_in_a_cluster_may_take_another_share_of_it():
    env = EnvConfig(backend="ray", ray=RayConfig(address="auto"), num_workers=2)
    config = replace(CONFIG, env=env)

    assert is_same_run(config_hash(config), with_other(config, "env.num_workers", 3))
    assert not is_same_run(config_hash(config), CONFIG)


# Does what a run did before fixtures were drawn, unexecuted actions masked and calls sized by device.
AS_THEN = replace(
    CONFIG,
    task=TaskConfig(fixtures="fixed", fixture_seed=0),
    policy=PolicyConfig(batch_size=4),
    algo=AlgoConfig(mask_unexecuted=False),
)
# Of the default settings at commit b99e045: a setting that comes later belongs into ADDED_LATER.
HASH_OF_B99E045 = "7a8ab226b3f7a657"


def hash_of_then(config):
    """The hash of all settings as a run took it before some of them came."""
    settings = parse_yaml(to_yaml(with_other(config, "training.num_train_steps", 1)))
    for key, before in ADDED_LATER.items():
        *sections, name = key.split(".")
        section = settings
        for each in sections:
            section = section[each]
        assert section.pop(name) == before
    whole = {
        name: value for name, value in settings.items() if value != {}
    }  # nor had it the section
    return hashlib.sha256(dump_yaml(whole).encode()).hexdigest()[:16]


def test_a_run_saved_when_the_machine_counted_too_goes_on_with_its_settings():
    config = with_other(AS_THEN, "task.num_parallel_envs", 8)
    stored = hash_of_then(config)

    assert stored != config_hash(config)
    assert is_same_run(stored, config)
    assert not is_same_run(stored, with_other(config, "training.seed", 43))


def test_a_run_saved_before_a_setting_came_goes_on_with_what_was_done_then():
    assert is_same_run(HASH_OF_B99E045, AS_THEN)
    assert not is_same_run(HASH_OF_B99E045, with_other(AS_THEN, "task.fixture_seed", None))
    assert not is_same_run(HASH_OF_B99E045, CONFIG)  # fixtures are drawn, unexecuted actions masked


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.fixtures", "fixed"),
        ("training.seed", 43),
        ("training.save_freq", 1),
        ("algo.lr", 1e-7),
        ("task.max_episode_length", 7),
        ("env.max_attempts", 1),  # decides when an episode counts as crashed
        ("policy.batch_size", 3),
    ],
)
def test_anything_else_makes_it_another_run(key, value):
    assert not is_same_run(config_hash(CONFIG), with_other(CONFIG, key, value))
