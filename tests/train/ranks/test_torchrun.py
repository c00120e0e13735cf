"""Whole runs as torchrun starts them, with toy simulators: alone, and with a rank that is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cores import own_core
from tests.train.toy_process import only
from tests.train.toy_run import ROOT, toy_arguments, toy_policy
from tests.train.toy_training import repeatable_metrics

pytestmark = pytest.mark.slow

TOY = ["-m", "tests.train.toy_run"]
END_S = 60.0
JOB = "TOY_JOB"  # by which the processes of a job are found again


def torchrun(num_ranks: int) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(num_ranks), *TOY,
    ]  # fmt: skip


def start(
    program: list[str], arguments: list[str], job: Path, wait_s: float = 0.0
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["taskset", "--cpu-list", str(own_core()), *program, *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "TOY_WAIT_S": str(wait_s),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            JOB: str(job),
        },
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_policy(tmp_path_factory.mktemp("policy"))


def test_one_rank_leaves_the_bits_of_a_run_without_torchrun(policy: Path, tmp_path: Path):
    runs = []
    for name, program in (("plain", [sys.executable, *TOY]), ("torchrun", torchrun(1))):
        arguments = toy_arguments(policy, tmp_path / name, exp_name="run")
        process = start(program, arguments, tmp_path)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        runs.append(only(tmp_path / name))
    plain, ranked = runs

    assert len(repeatable_metrics(plain)) == 3
    assert repeatable_metrics(ranked) == repeatable_metrics(plain)
    for name in ("pretrained_model/model", "training_state/optimizer"):
        stored = f"checkpoints/3/{name}.safetensors"
        assert (ranked / stored).read_bytes() == (plain / stored).read_bytes(), name


def test_ranks_that_have_nothing_to_do_together_end_well(policy: Path, tmp_path: Path):
    process = start(torchrun(2), [*toy_arguments(policy, tmp_path), "--print_config"], tmp_path)
    _, said = process.communicate(timeout=120)

    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("strategy", "stage", "rank"),
    [
        pytest.param("ddp", "collect: done", 1, id="updating"),
        pytest.param("fsdp", "collect: done", 1, id="updating-fsdp"),
        pytest.param("ddp", "collect: about", 0, id="rank-0-collecting"),
    ],
)
def test_killed_rank_ends_the_job_with_its_reason_and_no_process_stays(
    policy: Path, tmp_path: Path, strategy: str, stage: str, rank: int
):
    # Rank 0 says when a stage begins; many small passes let an update take seconds.
    arguments = toy_arguments(
        policy, tmp_path, algo__num_epochs=40, algo__lr=1e-5, algo__kl_stop="null",
        training__num_train_steps=2, distributed__strategy=strategy,
    )  # fmt: skip
    job = start(torchrun(2), arguments, tmp_path, wait_s=0.03)
    killer = threading.Timer(120, job.kill)
    killer.start()
    assert job.stderr is not None
    said = [next(line for line in job.stderr if re.search(f"step 2/2 {stage}", line))]
    ranks = ranks_of(tmp_path)
    time.sleep(0.15)
    os.kill(ranks[rank], signal.SIGKILL)
    began = time.monotonic()
    said += job.communicate()[1].splitlines(keepends=True)
    killer.cancel()

    assert time.monotonic() - began < END_S
    assert job.returncode not in (0, -signal.SIGKILL)
    errors = [line for line in said if line.startswith("error:")]
    assert len(errors) == 1, "".join(said)
    assert f"rank {rank} (process {ranks[rank]}) has ended unexpectedly" in errors[0]
    assert not processes_of(tmp_path), "processes outlive the job"


def processes_of(job: Path) -> dict[int, str]:
    """Return the living processes of a job with their environments."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_text()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and f"{JOB}={job}\0" in variables:
            found[int(entry.name)] = variables
    return found


def ranks_of(job: Path) -> dict[int, int]:
    """Return the processes of a job by rank."""
    processes = processes_of(job).items()
    numbers = {process: re.search(r"\0RANK=(\d+)\0", f"\0{text}") for process, text in processes}
    return {int(rank[1]): process for process, rank in numbers.items() if rank}
