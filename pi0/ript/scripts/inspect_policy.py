"""Is a checkpoint loaded right? Its card, where each choice came from, and what it does with one observation.

Statistics are compared with LIBERO's, and the policy acts once: on an observation of the simulator, or on one of a
file. The last line names the first thing that does not fit.

Examples:
    ript inspect DIR
    ript inspect DIR --suite libero_spatial --task 3 --override extra_delta=false
    ript inspect DIR --observation observation.safetensors
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pi0.card import PolicyCard
from pi0.checkpoint import find_folder, load_policy
from pi0.formats.folder import Contents, read_folder
from pi0.policy import Pi0Policy
from pi0.records import Observation
from pi0.ript.build_policy import choose_device
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.schema import PolicyConfig, TaskConfig, TrainConfig, TrainingConfig
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.fit import (
    FirstChunk,
    Range,
    action_ranges,
    check_fit,
    first_chunk,
    state_ranges,
)
from pi0.ript.scripts.parts.flags import Parser, add_seed_and_device
from pi0.ript.scripts.parts.policy_flags import add_policy_flags, policy_choices, read_overrides
from pi0.ript.scripts.probe import collect_observations
from pi0.ript.scripts.train_ript_pi0 import create_env_runner

PROPRIO = 9
NUMPY_FORMATS = (
    "BOOL",
    "U8",
    "I8",
    "U16",
    "I16",
    "F16",
    "U32",
    "I32",
    "F32",
    "U64",
    "I64",
    "F64",
)  # of safetensors


class Reference(NamedTuple):
    """What the policy is shown: an observation, its instruction, and where it came from."""

    observation: Observation
    task: str
    source: str


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript inspect", __doc__)
    parser.add_argument("policy", metavar="DIR", help="builtin or a checkpoint folder")
    parser.add_argument(
        "--observation",
        type=Path,
        default=None,
        metavar="FILE",
        help="a .safetensors file with one image per camera (as LIBERO gives it, upside-down), proprio [9] and metadata task; "
        "default: the simulator's first observation of --task",
    )
    parser.add_argument("--suite", default="libero_goal", help="of LIBERO; default %(default)s")
    parser.add_argument("--task", default="7", help="name or index; default %(default)s")
    add_seed_and_device(parser)
    add_policy_flags(parser)
    return parser.parse_args(argv)


def to_config(arguments: argparse.Namespace) -> TrainConfig:
    """Return the settings that load the policy and start one simulator."""
    return TrainConfig(
        policy_path=arguments.policy,
        norm_stats_path=arguments.norm_stats_path,
        task=TaskConfig(
            benchmark_name=arguments.suite,
            task_names_to_use=(arguments.task,),
            num_parallel_envs=1,
        ),
        policy=PolicyConfig(
            device=arguments.device,
            protocol=arguments.protocol,
            tokenizer_path=arguments.tokenizer_path,
            overrides=read_overrides(arguments.override),
        ),
        training=TrainingConfig(seed=arguments.seed),
    )


def read_observation(path: Path, card: PolicyCard) -> Reference:
    """Return the observation that a file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It lacks something, or something has another shape; the line names the key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--observation {path} does not exist; give a .safetensors file")
    held, task = _open(path)
    for name in (*card.cameras, "proprio"):
        if name not in held:
            raise ValueError(
                f"--observation {path}: {name!r} is missing; needed: {', '.join(card.cameras)}, proprio"
            )
    size = card.render_size
    for name in card.cameras:
        image = held[name]
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"--observation {path}: {name} must be uint8 [{size}, {size}, 3], got "
                f"{image.dtype} {list(image.shape)}"
            )
    proprio = held["proprio"]
    if proprio.shape != (PROPRIO,) or proprio.dtype.kind != "f" or not np.isfinite(proprio).all():
        raise ValueError(
            f"--observation {path}: proprio must be 9 finite numbers (position 3, quaternion x y z w 4, "
            f"fingers 2), got {proprio.dtype} {list(proprio.shape)}"
        )
    images = np.stack([held[name] for name in card.cameras])
    observation = Observation(images=images, proprio=proprio.astype(np.float64))
    return Reference(observation, task, str(path))


def _open(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """Return the arrays of a file and the instruction in its metadata."""
    try:
        with safe_open(path, framework="np") as file:
            task = (file.metadata() or {}).get("task")
            held = {name: _array(file, name, path) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"--observation {path} is damaged or not safetensors ({error})") from None
    if not task:
        raise ValueError(
            f"--observation {path}: the instruction is missing; "
            "write it with save_file(arrays, path, metadata={'task': ...})"
        )
    return held, task


def _array(file: Any, name: str, path: Path) -> NDArray[Any]:
    """Return an array of an open file; NumPy knows neither bfloat16 nor the 8-bit floats of networks.

    It does once a package that adds them is loaded; what is refused must not depend on that.
    """
    kind = file.get_slice(name).get_dtype()
    if kind not in NUMPY_FORMATS:
        raise ValueError(
            f"--observation {path}: {name} is {kind}, which NumPy does not know; save images as uint8 and proprio "
            "as float32 or float64"
        )
    return file.get_tensor(name)


def draw_observation(config: TrainConfig, policy: Pi0Policy) -> Reference:
    """Return the first observation of the task's first held-out initial state."""
    with create_env_runner(config, policy) as runner:
        (observation,), (task,) = collect_observations(
            config, policy, runner, 1, policy.card.denoise_steps
        )
    (name,) = config.task.task_names_to_use
    return Reference(observation, task, f"{config.task.benchmark_name} task {name}, drawn now")


def card_text(contents: Contents) -> str:
    """Return every key of the card with its value and its origin, and what it was made without."""
    rows = [
        (key, _plain(getattr(contents.card, key)), origin)
        for key, origin in contents.origins.items()
    ]
    rows += [("statistics", contents.stats.digest, contents.stats_source)]
    width = max(len(value) for _, value, _ in rows)
    lines = [f"  {key:<18}{value:<{width}}  {origin}" for key, value, origin in rows]
    lines += [f"  assumed: {line}" for line in contents.assumed]
    lines += [f"  not followed: {line}" for line in contents.not_followed]
    return "\n".join([f"policy card of {contents.folder}, and where each choice came from", *lines])


def ranges_text(title: str, ranges: Sequence[Range]) -> str:
    """Return statistics beside LIBERO's, one number a line."""
    lines = [f"{title:<18}{'policy':>18}{'LIBERO':>18}"]
    for entry in ranges:
        theirs = "-" if entry.expected is None else _interval(*entry.expected)
        mark = "" if entry.fits else "  does not fit"
        lines.append(
            f"  {entry.name:<16}{_interval(entry.center, entry.spread):>18}{theirs:>18}{mark}"
        )
    return "\n".join(lines)


def chunk_text(reference: Reference, chunk: FirstChunk) -> str:
    """Return what the policy does with the observation."""
    rows = [
        "  " + "".join(f"{value:>8.3f}" for value in action) for action in chunk.actions.tolist()
    ]
    state = "".join(f"{value:>8.2f}" for value in chunk.state.tolist())
    return "\n".join(
        [
            f"observation: {reference.source}: {reference.task!r}",
            f"state as the network takes it:{state}",
            f"first action chunk, {len(rows)} actions that would be executed (x y z roll pitch yaw gripper):",
            *rows,
            f"mean change of these actions: {chunk.noise_effect:.3f} with other initial noise, "
            f"{chunk.image_effect:.3f} with black images, {chunk.instruction_effect:.3f} with another "
            "instruction",
        ]
    )


def verdict(findings: Sequence[Finding]) -> str:
    """Return all that does not fit, and the first of it as the last line."""
    if not findings:
        return "nothing found that does not fit LIBERO"
    lines = [finding.line for finding in findings]
    return "\n".join(
        [*lines, f"first thing that does not fit: {findings[0].name}: {findings[0].text}"]
    )


def main(argv: Sequence[str]) -> int:
    """Load, show, act once; 1 if anything does not fit."""
    arguments = parse(argv)
    config = to_config(arguments)
    resolve_tasks(config)  # what can be refused is refused before anything is printed
    contents = read_folder(find_folder(arguments.policy), policy_choices(arguments))
    reference = None
    if arguments.observation is not None:
        reference = read_observation(arguments.observation, contents.card)
    print(card_text(contents))
    policy = load_policy(
        arguments.policy,
        device=choose_device(arguments.device),
        norm_stats_path=arguments.norm_stats_path,
        tokenizer_path=arguments.tokenizer_path,
        protocol=arguments.protocol,
        overrides=config.policy.overrides.chosen(),
    )
    reference = reference or draw_observation(config, policy)
    chunk = first_chunk(policy, reference.observation, reference.task, arguments.seed)
    print(ranges_text("state", state_ranges(policy)))
    print(ranges_text("actions", action_ranges(policy)))
    print(chunk_text(reference, chunk))
    findings = list(check_fit(policy, reference.observation, chunk))
    print(verdict(findings))
    return 1 if any(finding.status == "error" for finding in findings) else 0


def _interval(center: float, spread: float) -> str:
    return f"{center:.3g} +- {spread:.3g}"


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
