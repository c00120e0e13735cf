"""The same policy on the same initial states, by vla-eval and by ``ript eval``: wall clock, success per state.

    python benchmarks/vla_eval_duel.py [--quick] [--json FILE] [--policy builtin] [--suite libero_goal] [--task 7]

vla-eval is asked as its documentation says: two shards with LIBERO's own environments, one model server for both
(``examples/vla_eval_server.py``, which asks ``ript serve``). Both sides begin with nothing running and have the same
cores. They are not the same measurement: vla-eval draws exact images of 256 pixels of both cameras after every control step,
opens or closes the gripper fully, and draws fixtures from the seed of its environments. Needs what ``make setup``
installs, and LIBERO's configuration where vla-eval looks for it (``LIBERO_CONFIG_PATH``), which is set here.
"""

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import yaml
from libero.libero import get_default_path_dict

from benchmarks.parts.document import ROOT
from benchmarks.parts.measure import add_output_arguments, write_json
from pi0.ript.env.suites import task_language
from pi0.ript.report.intervals import paired_change, success_rate

NUM_SHARDS = 2
RIPT = (sys.executable, "-m", "pi0.ript.scripts.cli")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def running(*command: str, port: int) -> Iterator[None]:
    """Run a server until the block ends; the block begins once it listens."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as server:
        try:
            while True:
                assert server.poll() is None, f"{command} ended"
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            yield
        finally:
            server.terminate()


def by_vla_eval(arguments: argparse.Namespace, episodes: int, folder: Path) -> Path:
    """Run vla-eval and return its aggregate."""
    ours, theirs = free_port(), free_port()
    entry = {
        "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
        "name": arguments.suite,
        "mode": "sync",
        "episodes_per_task": episodes,
        "tasks": [task_language(arguments.suite, arguments.task)],
        "params": {"suite": arguments.suite, "seed": 7},
    }
    config = {
        "server": {"url": f"ws://127.0.0.1:{theirs}", "timeout": 600},
        "output_dir": str(folder / "vla_eval"),
        "benchmarks": [entry],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "libero").mkdir()
    (folder / "libero/config.yaml").write_text(yaml.safe_dump(get_default_path_dict()))
    environment = os.environ | {"LIBERO_CONFIG_PATH": str(folder / "libero"), "MUJOCO_GL": "egl"}
    program = str(Path(sys.executable).with_name("vla-eval"))
    run = [
        program,
        "run",
        "--no-docker",
        "--config",
        str(folder / "config.yaml"),
    ]
    run += ["--no-record-video", "--eval-id", "duel", "--num-shards", str(NUM_SHARDS), "--shard-id"]
    serve = (*RIPT, "serve", "--policy", arguments.policy, "--port", str(ours))
    model = (sys.executable, "-m", "examples.vla_eval_server", "--host", "127.0.0.1")
    model += ("--port", str(theirs), "--args.port", str(ours))
    with running(*serve, port=ours), running(*model, port=theirs):
        shards = [
            subprocess.Popen([*run, str(n)], cwd=folder, env=environment) for n in range(NUM_SHARDS)
        ]
        assert [shard.wait() for shard in shards] == [0] * NUM_SHARDS
    database = folder / "vla_eval/recording-duel.sqlite"
    subprocess.run([program, "export", str(database)], cwd=folder, check=True)
    (path,) = (folder / "vla_eval").glob("*_aggregate.json")
    return path


def by_ript(arguments: argparse.Namespace, episodes: int, folder: Path) -> Path:
    """Run ``ript eval`` and return the aggregate that it writes as vla-eval does."""
    command = (*RIPT, "eval", "--policy", arguments.policy, "--suite", arguments.suite)
    command += ("--tasks", str(arguments.task), "--episodes", str(episodes), "--also", "vla-eval")
    command += ("--initial_states", "all", "--output_dir", str(folder / "ript"))
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / "ript" / f"{arguments.suite}_aggregate.json"


def episodes_of(path: Path) -> dict[int, Mapping[str, Any]]:
    """Return every initial state's episode."""
    (task,) = json.loads(path.read_text())["tasks"]
    failed = [each for each in task["episodes"] if "failure_reason" in each]
    assert not failed, f"{path}: {failed}"
    return {each["episode_id"]: each for each in task["episodes"]}


def timed(side: Any, *rest: Any) -> tuple[float, dict[int, Mapping[str, Any]]]:
    """Return wall seconds of a side and its episodes."""
    started = time.perf_counter()
    path = side(*rest)
    return time.perf_counter() - started, episodes_of(path)


def compare(
    theirs: tuple[float, dict[int, Mapping[str, Any]]],
    ours: tuple[float, dict[int, Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return wall clocks and success, paired by initial state; an episode ends at success, so steps differ."""
    states = sorted(theirs[1].keys() & ours[1].keys())
    found: dict[str, Any] = {"episodes": len(states)}
    outcomes: list[list[bool]] = []
    for name, (seconds, episodes) in (("vla_eval", theirs), ("ript", ours)):
        success = [bool(episodes[state]["metrics"]["success"]) for state in states]
        steps = sum(episodes[state]["steps"] for state in states)
        outcomes.append(success)
        found |= {
            f"{name}_s": seconds,
            f"{name}_steps": steps,
            f"{name}_steps_per_s": steps / seconds,
            f"{name}_success": str(success_rate(success)),
            f"{name}_outcomes": success,
        }
    found["difference"] = str(paired_change(*outcomes))
    found["speedup"] = found["vla_eval_s"] / found["ript_s"]
    found["speedup_per_step"] = found["ript_steps_per_s"] / found["vla_eval_steps_per_s"]
    return found


def main() -> int:
    """Run both sides and print what they found."""
    parser = argparse.ArgumentParser(description="vla-eval against ript eval")
    parser.add_argument("--policy", default="builtin")
    parser.add_argument("--suite", default="libero_goal")
    parser.add_argument("--task", type=int, default=7)
    add_output_arguments(parser)
    arguments = parser.parse_args()
    episodes = 2 if arguments.quick else 20
    with tempfile.TemporaryDirectory() as name:
        sides = [timed(side, arguments, episodes, Path(name)) for side in (by_vla_eval, by_ript)]
    found = compare(*sides)
    for key, value in found.items():
        print(f"{key:<24}{value}")
    write_json(arguments.json, found, is_quick=arguments.quick)
    return int(not math.isfinite(found["speedup"]))


if __name__ == "__main__":
    sys.exit(main())
