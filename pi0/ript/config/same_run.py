"""Which settings make a run what it is, and which may change when it is resumed."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import cast

from pi0.ript.config.load import to_plain
from pi0.ript.config.schema import DistributedConfig, TrainConfig
from pi0.ript.config.sections import ValueConfig
from pi0.ript.config.yaml_text import dump_yaml

# What a machine can bear, and what the errors of a machine that cannot bear it advise to change: no episode and
# no weight depends on it.
OF_THE_MACHINE = (
    "training.memory_limit_gb",
    "training.save_full_policy",
    "rollouts.save",
    "task.num_parallel_envs",
    "env.num_workers",
    "env.max_scenes",
    "env.egl_device",
    "env.exactness",
    "env.timeout_s",
    "env.max_restarts",
)
# Settings that came later, with the value that means what every run did before: with it they do not count, as
# they did not when the hash of an earlier checkpoint was taken.
ADDED_LATER: dict[str, object] = {
    "task.fixtures": "fixed",
    "evaluation.max_episode_length": None,
    "policy.overrides.gripper": None,
    "policy.overrides.prompt_state": None,
    "policy.cuda_graphs": False,
    "algo.mask_unexecuted": False,
    "algo.state_sampling": "cycle",
    "algo.replay_steps": 0,
    "algo.replay_weighting": "smooth",
    "algo.success_weight": "equal",
    "algo.critic": "none",
    "algo.value": asdict(ValueConfig()),
    "env.exactness": "check",  # decides no episode
    "training.save_full_policy": "last",
    "training.deterministic": False,
    "rollouts.save": "none",  # decides no episode
}
DEFAULTS_THEN = {"env.max_scenes": 4}
"""Defaults of the machine's settings that have changed since hashes are taken, as they were."""
CHANGEABLE = (
    "training.num_train_steps",
    *OF_THE_MACHINE,
    "distributed.strategy",
    "distributed.timeout_seconds",
)


def config_hash(config: TrainConfig) -> str:
    """Return a short hash of the settings that a resumed run must keep.

    The number of steps may grow, another number of ranks may go on in another way, and another machine or
    another share of it may be used.
    """
    return _hash(config, OF_THE_MACHINE)


def is_same_run(stored_hash: str, config: TrainConfig) -> bool:
    """Return whether a checkpoint with this hash is one of a run with these settings."""
    # Checkpoints written before the settings of the machine could change count them too.
    return stored_hash in (config_hash(config), _hash(config, ()))


def _hash(config: TrainConfig, ignored: Sequence[str]) -> str:
    fixed = replace(
        config,
        training=replace(config.training, num_train_steps=1),
        distributed=DistributedConfig(),
    )
    settings, defaults = to_plain(fixed), to_plain(TrainConfig())
    for key in ignored:
        section, name = _section(settings, key)
        section[name] = DEFAULTS_THEN.get(key, _section(defaults, key)[0][name])
    for key, before in ADDED_LATER.items():
        section, name = _section(settings, key)
        if section[name] == before:
            del section[name]
    settings = {
        name: value for name, value in settings.items() if value != {}
    }  # sections came later too
    return hashlib.sha256(dump_yaml(settings).encode()).hexdigest()[:16]


def _section(settings: dict[str, object], key: str) -> tuple[dict[str, object], str]:
    """Return the section that holds a dotted key, and the key's name in it."""
    *sections, name = key.split(".")
    for each in sections:
        settings = cast("dict[str, object]", settings[each])
    return settings, name
