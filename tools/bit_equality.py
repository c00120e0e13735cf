"""Prove that a refactoring changes no bit of what seeded runs compute.

python tools/bit_equality.py record CHECKOUT --out hashes.json   runs the cases with the code of a checkout
python tools/bit_equality.py compare BEFORE.json AFTER.json      prints a table; 1 if anything differs

Tensors are kept as hashes, records as JSON text, so that names can be mapped when two files are compared.
A finished case is written at once, and ``record`` skips what the file holds. Compare recordings of one
machine and one environment only: other processors and libraries round differently.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import deserialize

# Old name -> new name, applied to both sides of a comparison.
RENAMED = {  # in metrics.jsonl, as in pi0/ript/report/jsonl.py
    "time/practice_s": "time/rollout_s",
    "time/worker_film_s": "time/worker_video_s",
    "speed/policy_batch_rows": "speed/policy_batch_samples",
}
RENAMED_KEYS: dict[str, str] = {}  # in records of episodes and evaluations, at any depth

HASHED = (".py", ".yaml", ".json", ".safetensors")  # of the package
MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
# Seconds differ every time, versions are no result, and a file's own checksum depends on names.
NOT_COMPARED = ("seconds", "versions", "sha256")
# Variables that would win over the settings of a case.
OVERRIDING = ("PI0_", "RIPT_", "TOY_", "USE_RIPT", "OMP_", "MKL_", "RANK", "WORLD_SIZE")

PREPARE = "import sys; from tests.train.toy_run import toy_policy; toy_policy(sys.argv[1])"
TRAIN = ("pi0/ript/scripts/train_ript_pi0.py",)
EVAL = ("-m", "pi0.ript.scripts.cli", "eval")
TOY = ("-m", "tests.train.toy_run")
RANKS = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *TOY)
CASE_TIMEOUT_S = 1200.0

# Of a flag that is given twice the last one counts.
COMMON = """--output_dir={runs} --policy.device=cpu --training.memory_limit_gb=64
    --training.target_success=null --evaluation.save_videos=0 --logging.tensorboard=false """
TOYS = f"""--config_path=pi0/ript/config/debug_train_pi0.yaml --policy_path={{policy}} {COMMON}
    --task.task_name=turn_on_the_stove --task.max_episode_length=12 --algo.rloo_batch_size=4
    --algo.demo_batch_size=2 --algo.num_epochs=2 --algo.num_minibatches=2 --algo.lr=1e-3
    --training.num_train_steps=3 --training.save_freq=2 --evaluation.rollouts_per_task=2 """
SIMULATORS = f"{COMMON} --task.num_parallel_envs=8 --env.num_workers=2 "
QUICKSTART = f"""--config_path=pi0/ript/config/quickstart.yaml {SIMULATORS}
    --algo.objective=flow_sde --algo.replay_steps=0 --algo.demo_batch_size=3 --training.num_train_steps=3
    --evaluation.rollouts_per_task=4"""
TEN_TASKS = f"""--config_path=pi0/ript/config/libero_spatial.yaml {SIMULATORS}
    --algo.demo_batch_size=4 --training.num_train_steps=1 --evaluation.rollouts_per_task=1"""
EVALUATION = """--policy=builtin --suite=libero_goal --tasks=7 --episodes=4 --num_parallel_envs=4
    --max_episode_length=100 --device=cpu --output_dir={runs}/evaluation"""


Stop = Callable[[], bool] | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A small seeded run.

    Attributes:
        flags: Settings; ``{policy}`` stands for the small policy, ``{runs}`` for a new folder.
        program: What the interpreter runs.
        num_cores: Cores that it gets: torch learns with as many threads, and sums depend on them.
        stop_after: It gets SIGTERM once it has logged as many steps and is resumed; 0 for neither.
    """

    flags: str
    program: tuple[str, ...] = TOY
    num_cores: int = 1
    stop_after: int = 0


CASES = {
    "toy_flow_sde": Case(flags=TOYS + "--algo.kl_stop=null"),
    "toy_nft": Case(flags=TOYS + "--algo.objective=nft"),
    "toy_cfg": Case(flags=TOYS + "--algo.objective=cfg"),
    "toy_bc": Case(flags=TOYS + "--algo.objective=bc"),
    "toy_overlap": Case(flags=TOYS + "--training.overlap=true"),
    "ranks": Case(flags=TOYS + "--distributed.strategy=ddp", program=RANKS),
    "ranks_fsdp": Case(flags=TOYS + "--distributed.strategy=fsdp", program=RANKS),
    "resume": Case(flags=TOYS + "--training.num_train_steps=4", stop_after=2),
    "evaluation": Case(flags=EVALUATION, program=EVAL, num_cores=2),
    "quickstart": Case(flags=QUICKSTART, program=TRAIN, num_cores=2),
    "ten_tasks": Case(flags=TEN_TASKS, program=TRAIN, num_cores=2),
}


class Checkout:
    """A checkout whose own code runs, whatever package the interpreter has installed."""

    def __init__(self, folder: Path) -> None:
        """Raise ``ValueError`` if a program started there would import another ``pi0``, or none."""
        self.folder = folder.resolve()
        self._cores = sorted(os.sched_getaffinity(0))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OVERRIDING)}
        self._environment = kept | {"PYTHONPATH": str(self.folder)}
        query = self._start(["-c", "import pi0; print(*pi0.__path__)"], 1, stdout=subprocess.PIPE)
        found = query.communicate()[0].decode().strip()
        if found != str(self.folder / "pi0"):
            raise ValueError(f"{folder}: the package that runs there is {found or 'missing'}")

    def digest(self) -> str:
        """Return a hash of the whole package."""
        files = sorted(path for path in self.folder.glob("pi0/**/*") if path.suffix in HASHED)
        hashes = {str(p.relative_to(self.folder)): sha256(p.read_bytes()) for p in files}
        return sha256(json.dumps(hashes))

    def run(
        self, arguments: Iterable[str], num_cores: int, log: Path, stop_when: Stop = None
    ) -> None:
        """Run a program to its end or until SIGTERM has stopped it; raise if it ends otherwise."""
        expected = 143 if stop_when else 0
        with log.open("ab") as output:
            process = self._start(arguments, num_cores, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + CASE_TIMEOUT_S
            while process.poll() is None and time.monotonic() < deadline:
                if stop_when and stop_when():
                    process.terminate()
                    stop_when = None
                time.sleep(0.02)
        finally:
            process.terminate()
            process.wait()
        if process.returncode != expected:
            lines = log.read_text(errors="replace").splitlines()[-30:]
            raise RuntimeError("\n".join([*lines, f"exit status {process.returncode}"]))

    def _start(self, arguments: Iterable[str], num_cores: int, **pipes: Any) -> Any:
        if len(self._cores) < num_cores:
            raise ValueError(f"a case needs {num_cores} cores, there are {len(self._cores)}")
        os.sched_setaffinity(0, self._cores[-num_cores:])  # the program inherits it
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self._environment, **pipes)


def run_case(checkout: Checkout, case: Case, folder: Path) -> Path:
    """Run a case in a folder and return what it has left there."""
    policy, log, runs = folder.with_name("policy"), folder / "log.txt", folder / "runs"
    folder.mkdir()
    if TOY[-1] in case.program and not policy.is_dir():
        checkout.run(["-c", PREPARE, str(policy)], 1, log)
    flags = [flag.format(policy=policy, runs=runs) for flag in case.flags.split()]

    def num_steps() -> int:
        return sum(path.read_bytes().count(b"\n") for path in runs.glob("*/metrics.jsonl"))

    stop_when = (lambda: num_steps() >= case.stop_after) if case.stop_after else None
    checkout.run([*case.program, *flags], case.num_cores, log, stop_when)
    (run_dir,) = runs.iterdir()
    if case.stop_after:
        if num_steps() > case.stop_after + 1:
            raise RuntimeError("the run was not stopped in time; record it again")
        checkout.run([*case.program, f"--resume={run_dir}"], case.num_cores, log)
    return run_dir


def sha256(data: bytes | str) -> str:
    """Return the SHA-256 of bytes or text in hexadecimal digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def tensor_hashes(files: Iterable[Path]) -> dict[str, str]:
    """Return a hash of type, shape and bytes of every tensor in safetensors files, by name.

    Where ranks wrote parts of a tensor, the later ones have a number behind the name.
    """
    hashes: dict[str, str] = {}
    for path in sorted(files):
        for name, tensor in deserialize(path.read_bytes()):
            parts = sum(key.partition(" part ")[0] == name for key in hashes)
            text = f"{tensor['dtype']} {tensor['shape']} ".encode()
            key = f"{name} part {parts + 1}" if parts else name
            hashes[key] = sha256(text + tensor["data"])
    return hashes


def artifacts(run_dir: Path) -> dict[str, Any]:
    """Return what a training run or an evaluation has left: hashes by tensor, JSON texts of records."""
    records = {p.stem: p.read_text().splitlines() for p in run_dir.glob("*.jsonl")}
    last = run_dir / "checkpoints" / "last"
    if not last.exists():
        return {"evaluations": records["episodes"]}
    state = set((last / "training_state").rglob("*.safetensors"))
    optimizer = {path for path in state if "optimizer" in str(path.relative_to(last))}
    evaluations = (run_dir / "evaluations").glob("step_*.json")
    return {
        "weights": tensor_hashes([last / "pretrained_model/model.safetensors"]),
        "optimizer": tensor_hashes(optimizer),
        "earlier weights": tensor_hashes(state - optimizer),
        "metrics": records["metrics"],
        "episodes": records["episodes"],
        "evaluations": [json.dumps({p.name: json.loads(p.read_text())}) for p in evaluations],
    }


def record(folder: Path, out: Path, names: Iterable[str]) -> None:
    """Run the cases that ``out`` does not hold yet and write each as soon as it is done."""
    checkout = Checkout(folder)
    source = checkout.digest()
    content = json.loads(out.read_text()) if out.exists() else {"source": source, "cases": {}}
    if content["source"] != source:
        raise ValueError(f"{out} was recorded with other code than {folder}; choose another --out")
    with tempfile.TemporaryDirectory() as scratch:
        for name in (name for name in names if name not in content["cases"]):
            began = time.monotonic()
            left = artifacts(run_case(checkout, CASES[name], Path(scratch) / name))
            if checkout.digest() != source:
                raise ValueError(f"{folder}/pi0 has changed while {name} ran; record it again")
            seconds = round(time.monotonic() - began, 1)
            content["cases"][name] = {"seconds": seconds, "artifacts": left}
            temporary = out.with_name(f"{out.name}.part")
            temporary.write_text(json.dumps(content, indent=1) + "\n")
            temporary.replace(out)
            print(f"{name}: {seconds} s", flush=True)


def comparable(value: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON value with the new names of its keys and without what differs every time."""
    if isinstance(value, list):
        return [comparable(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    kept = [k for k in value if k not in NOT_COMPARED and not k.startswith(MACHINE_DEPENDENT)]
    new = {names.get(key, key): comparable(value[key], names) for key in kept}
    if len(new) < len(kept):
        raise ValueError(f"two keys have the same new name: {sorted(kept)}")
    return new


def compared_values(artifact: str, stored: Any) -> dict[str, str]:
    """Return what is compared: a hash by tensor, or a text by value of every record."""
    if isinstance(stored, dict):
        return stored
    names = RENAMED if artifact == "metrics" else RENAMED_KEYS
    records = [comparable(json.loads(text), names) for text in stored]
    if artifact == "evaluations":  # "ript eval" writes episodes in the order in which they end
        records.sort(key=lambda record: json.dumps(record, sort_keys=True))
    items = [(f"record {n} {key}", entry[key]) for n, entry in enumerate(records) for key in entry]
    return {name: json.dumps(value, sort_keys=True) for name, value in items}


def compare(before: Mapping[str, Any], after: Mapping[str, Any], cases: Iterable[str]) -> bool:
    """Print a line per case and artifact; return whether all are there and equal."""
    are_equal = True
    for case in cases:
        sides = [side.get(case, {}).get("artifacts", {}) for side in (before, after)]
        for artifact in dict.fromkeys([*sides[0], *sides[1]]) or ["all"]:
            one, other = (compared_values(artifact, side.get(artifact, {})) for side in sides)
            names = [name for name in one | other if one.get(name) != other.get(name)]
            hashes = [sha256(json.dumps(x, sort_keys=True))[:12] for x in (one, other)]
            is_missing = not (one or other) and artifact != "earlier weights"
            verdict = "MISSING" if is_missing else f"{len(names)} DIFFER" if names else "equal"
            print(f"{case:<13} {artifact:<16} {hashes[0]} {hashes[1]} {len(one):>5} {verdict}")
            for name in names[:5]:
                texts = [side.get(name, "none") for side in (one, other)]
                differ = (n for n, (a, b) in enumerate(zip(*texts, strict=False)) if a != b)
                start = max(0, next(differ, 0) - 20)
                print(f"    {name}: {' | '.join(text[start : start + 60] for text in texts)}")
            are_equal = are_equal and verdict == "equal"
    return are_equal


def main() -> int:
    """Run the command line: 1 if recordings differ, 2 for errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording, comparing = commands.add_parser("record"), commands.add_parser("compare")
    recording.add_argument("checkout", type=Path)
    recording.add_argument("--out", type=Path, required=True)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    for command in (recording, comparing):
        command.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    try:
        if arguments.command == "record":
            record(arguments.checkout, arguments.out, arguments.case)
            return 0
        files = [json.loads(path.read_text()) for path in (arguments.before, arguments.after)]
        return 0 if compare(files[0]["cases"], files[1]["cases"], arguments.case) else 1
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
