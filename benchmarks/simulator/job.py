"""What one side of a comparison has to do, and how it is started as a process of its own.

A process of its own, because the numbers of rendering and linear algebra threads are chosen by
environment variables that libraries read once.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.parts.document import ROOT
from pi0.checkpoint import load_policy
from pi0.policy import Pi0Policy
from pi0.records import Chunk, Observation, ObservationSpec, RenderQuality, Sampling
from pi0.ript.config.env import EnvConfig
from pi0.ript.config.task import TaskConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.seeding import derive_seed
from pi0.ript.types import EpisodeRequest

SAMPLING = Sampling(num_steps=4, noise_scale=0.5)
BATCH_SIZE = 4
NUM_STEPS_WAIT = TaskConfig().num_steps_wait
TIMEOUT_S = EnvConfig().timeout_s
ROLLOUTS_PER_STATE = 8
# Another task of the same scene than the one that ends an episode, so that all of them are whole.
INSTRUCTION = "put the cream cheese in the bowl"

Side = Literal["engine", "subproc", "async", "limit"]


@dataclass(frozen=True, kw_only=True)
class Threads:
    """Threads a side may use in every process; None leaves the library's default, one per core.

    Attributes:
        rendering: ``LP_NUM_THREADS`` of Mesa's software renderer.
        algebra: ``OMP_NUM_THREADS`` of numpy's and torch's linear algebra, and torch's own threads.
    """

    rendering: int | None = 1
    algebra: int | None = 1

    def __str__(self) -> str:
        names = ("all" if n is None else str(n) for n in (self.rendering, self.algebra))
        return "LP_NUM_THREADS={} OMP_NUM_THREADS={}".format(*names)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process with these threads."""
        chosen = {
            "LP_NUM_THREADS": self.rendering,
            "OMP_NUM_THREADS": self.algebra,
            "OPENBLAS_NUM_THREADS": self.algebra,
        }
        inherited = {name: value for name, value in os.environ.items() if name not in chosen}
        return inherited | {name: str(n) for name, n in chosen.items() if n is not None}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one side has to do.

    Attributes:
        side: Who does it.
        suite: LIBERO suite.
        task_id: Task number within the suite.
        cameras: Cameras drawn; the policy observes the first one.
        size: Rendered width and height in pixels.
        quality: Rendering of the engine; the others always render exactly.
        num_workers: Simulator processes.
        num_slots: Episodes under way at once; the others have one per process.
        num_episodes: Episodes to do.
        max_steps: Control steps per episode.
        chunk: Actions executed of every action chunk, which has 10.
    """

    side: Side
    suite: str
    task_id: int
    cameras: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    size: int = 256
    quality: RenderQuality = "exact"
    num_workers: int = 2
    num_slots: int = 8
    num_episodes: int = 2
    max_steps: int = 100
    chunk: int = 10

    @property
    def spec(self) -> ObservationSpec:
        """Return which images are drawn."""
        return ObservationSpec(
            cameras=self.cameras, height=self.size, width=self.size, quality=self.quality
        )

    def requests(self) -> list[EpisodeRequest]:
        """Return the episodes to do: the same ones, in the same order, on every side."""
        return [
            EpisodeRequest(
                initial_state=make_initial_state(
                    self.suite, self.task_id, number // ROLLOUTS_PER_STATE, fixture_seed=0
                ),
                seed=derive_seed(0, "benchmark", number),
                max_steps=self.max_steps,
                group=number // ROLLOUTS_PER_STATE,
                rollout=number % ROLLOUTS_PER_STATE,
            )
            for number in range(self.num_episodes)
        ]


def _exact(job: Job) -> Job:
    return replace(job, quality="exact")


def _fast(job: Job) -> Job:
    return replace(job, quality="fast")


def _quickstart(job: Job) -> Job:
    return replace(job, quality="fast", cameras=job.cameras[:1], size=96)


SETTINGS = {"exact": _exact, "fast": _fast, "quickstart": _quickstart}
"""The ways the engine draws: exactly, without multisampling, as the quickstart does."""


class FirstCameraPolicy:
    """The embedded policy where more cameras are drawn than it observes.

    Its codec brings the first image to the size it was trained with. It always works at
    ``INSTRUCTION``.
    """

    def __init__(self, spec: ObservationSpec, chunk: int) -> None:
        """Load the policy; its threads are those that torch has been given.

        Args:
            spec: What is drawn.
            chunk: Actions handed out of every chunk.
        """
        self._chunk = chunk
        self._policy: Pi0Policy = load_policy("builtin", batch_size=BATCH_SIZE)
        self.spec = spec

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return an action chunk for every observation from its first image."""
        del tasks
        first = [Observation(images=o.images[:1], proprio=o.proprio) for o in observations]
        chunks = self._policy.act(first, [INSTRUCTION] * len(first), seeds, sampling)
        return [replace(chunk, actions=chunk.actions[: self._chunk]) for chunk in chunks]


def policy_step_digest(observation: Observation, chunk: Chunk) -> str:
    """Return a hash of every bit of an observation and its actions."""
    digest = hashlib.sha256(observation.images.tobytes())
    digest.update(observation.proprio.tobytes())
    digest.update(chunk.actions.tobytes())
    return digest.hexdigest()[:16]


def run_job(job: Job, threads: Threads) -> dict[str, Any]:
    """Do a job in a process of its own and return what it reports."""
    return run_together([job], threads)[0]


def run_together(jobs: Sequence[Job], threads: Threads) -> list[dict[str, Any]]:
    """Do jobs at the same time, a process each, and return what they report."""
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / f"{number}.json" for number in range(len(jobs))]
        processes = [_start(job, threads, file) for job, file in zip(jobs, results, strict=True)]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"{jobs[0].side}: a benchmark process ended with {codes}; see above")
        return [json.loads(file.read_text()) for file in results]


def _start(job: Job, threads: Threads, result: Path) -> subprocess.Popen[bytes]:
    # LIBERO and robosuite print on the standard output, which belongs to our tables.
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.simulator.side", json.dumps(asdict(job)), str(result)],
        cwd=ROOT,
        env=threads.environment(),
        stdout=subprocess.DEVNULL,
    )


def read_job(text: str) -> Job:
    """Return the job of a JSON text."""
    fields = json.loads(text)
    return Job(**{**fields, "cameras": tuple(fields["cameras"])})
