"""Flags with which the user decides against the files of a policy."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pi0.formats.folder import Choices
from pi0.ript.config.decode import Raw, decode_config
from pi0.ript.config.policy import PolicyOverrides


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    """Add what decides against the files of a policy."""
    group = parser.add_argument_group("instead of what the files of the policy say")
    group.add_argument(
        "--protocol",
        choices=("openpi", "lerobot"),
        default=None,
        help="preset of pre- and post-processing; default: the one of the policy's layout",
    )
    group.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one key of the policy card, e.g. extra_delta=false; may be repeated",
    )
    group.add_argument("--norm_stats_path", default=None, help="replaces the policy's statistics")
    group.add_argument("--tokenizer_path", default=None, help="replaces the policy's tokenizer")


def policy_choices(arguments: argparse.Namespace) -> Choices:
    """Return what the flags of ``add_policy_flags`` decide against the files of a policy."""
    return Choices(
        protocol=arguments.protocol,
        overrides=read_overrides(arguments.override).chosen(),
        norm_stats_path=arguments.norm_stats_path and Path(arguments.norm_stats_path),
        tokenizer_path=arguments.tokenizer_path and Path(arguments.tokenizer_path),
    )


def read_overrides(texts: Sequence[str]) -> PolicyOverrides:
    """Return the overrides that ``KEY=VALUE`` texts name."""
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not equals:
            raise ValueError(f"--override needs KEY=VALUE, got {key!r}")
    return decode_config(PolicyOverrides, {key: Raw(text=value) for key, _, value in pairs})
