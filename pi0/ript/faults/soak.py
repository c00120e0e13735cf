"""A training run with injected faults, then the same run without, then what the faults have changed."""

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pi0.ript.faults.compare import Comparison, compare_runs, read_steps
from pi0.ript.faults.inject import PlannedFault, inject
from pi0.ript.faults.training import TrainingRun
from pi0.ript.report.jsonl import METRICS_NAME

logger = logging.getLogger(__name__)

DISTURBED, UNDISTURBED = "disturbed", "undisturbed"  # folders of the two runs
ENDLESS = 10**6
PAUSE_S = 0.2
INTERRUPTED = 143
REFUSED = 2  # wrong settings, a full disk: what another start does not mend


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakResult:
    """What a soak did and measured; every count of damage is 0 if nothing was lost.

    Attributes:
        kills: Workers killed.
        stops: Workers stopped (SIGSTOP).
        corruptions: Workers into whose sockets malformed bytes were written.
        trainer_kills: Trainers killed and resumed.
        steps: Training steps compared.
        minutes: How long the disturbed run took.
        restarts: Workers replaced, as the disturbed run counts them.
        comparison: What differs from the undisturbed run.
        orphans: Processes that outlived their trainer by 5 s.
        leaked_segments: Segments of shared memory left behind.
        unexpected_exits: Ends of the trainer that no fault caused.
        rss_growth: Relative growth of the trainer's resident memory after warm-up, with faults.
        workers_rss_growth: That of all workers together after warm-up, without faults.
        throughput_ratio: Pace of the collections without a restart or a scene build over that of the
            same collections of the undisturbed run, which execute the same control steps.
    """

    kills: int
    stops: int
    corruptions: int
    trainer_kills: int
    steps: int
    minutes: float
    restarts: int
    comparison: Comparison
    orphans: int
    leaked_segments: int
    unexpected_exits: int
    rss_growth: float | None
    workers_rss_growth: float | None
    throughput_ratio: float | None

    @property
    def is_unharmed(self) -> bool:
        """Return whether nothing was lost, changed or left behind."""
        c = self.comparison
        damage = (c.lost_episodes, c.repeated_episodes, c.differing_episodes, c.differing_metrics)
        left = (c.differing_weights, self.orphans, self.leaked_segments, self.unexpected_exits)
        return self.steps > 0 and not any((*damage, *left))

    def to_json(self) -> str:
        """Return all numbers as one flat JSON object."""
        numbers = asdict(self)
        comparison = numbers.pop("comparison")
        return json.dumps({**numbers, **comparison}, indent=1) + "\n"


def soak(
    folder: Path,
    settings: Sequence[str],
    plan: Sequence[PlannedFault],
    minutes: float,
) -> SoakResult:
    """Train with the planned faults for some minutes, then without, and compare.

    Args:
        folder: Both runs are written below it.
        settings: Command line of the run without its length and folder.
        plan: The faults, in order of time.
        minutes: Least length of the disturbed run.

    Raises:
        ValueError: The disturbed run finished no step.
        OSError: A trainer cannot start or go on; says what it said.
    """
    began = time.monotonic()
    disturbed = TrainingRun(
        folder / DISTURBED, training_arguments(folder / DISTURBED, settings, ENDLESS)
    )
    with disturbed:
        done, unexpected = _run_with_faults(disturbed, plan, began + 60.0 * minutes)
    took = (time.monotonic() - began) / 60.0
    steps = disturbed.step
    if not steps or disturbed.run_dir is None:
        raise ValueError(f"no step was finished in {took:.1f} minutes; raise --minutes")
    logger.info("with faults: %d steps in %.1f minutes; the same without", steps, took)
    undisturbed = TrainingRun(
        folder / UNDISTURBED, training_arguments(folder / UNDISTURBED, settings, steps)
    )
    with undisturbed:
        undisturbed.start()
        status = undisturbed.wait()
    if status != 0 or undisturbed.run_dir is None:
        raise OSError(f"the undisturbed run ended with status {status}: {undisturbed.last_error}")
    return SoakResult(
        kills=done["kill"],
        stops=done["stop"],
        corruptions=done["corrupt"],
        trainer_kills=done["trainer_kill"],
        steps=steps,
        minutes=took,
        restarts=_restarts(disturbed.run_dir, steps),
        comparison=compare_runs(disturbed.run_dir, undisturbed.run_dir, steps),
        orphans=disturbed.num_orphans + undisturbed.num_orphans,
        leaked_segments=disturbed.leaked_segments + undisturbed.leaked_segments,
        unexpected_exits=unexpected,
        rss_growth=disturbed.trainer_growth,
        workers_rss_growth=undisturbed.workers_growth,
        throughput_ratio=_throughput_ratio(disturbed.run_dir, undisturbed.run_dir, steps),
    )


def training_arguments(folder: Path, settings: Sequence[str], num_steps: int) -> list[str]:
    """Return the command line of a run of a soak.

    Args:
        folder: The run is written below it.
        settings: Command line without length and folder.
        num_steps: Length of the run.
    """
    own = {
        "output_dir": folder,
        "training.num_train_steps": num_steps,
        "training.save_freq": 1,
        "evaluation.rollouts_per_task": 0,
        "env.max_restarts": ENDLESS,
    }
    return [*settings, *(f"--{key}={value}" for key, value in own.items())]


def _run_with_faults(
    run: TrainingRun, plan: Sequence[PlannedFault], until: float
) -> tuple[Counter[str], int]:
    """Return how many faults of each kind were injected, and how often the trainer ended by itself."""
    began = time.monotonic()
    done: Counter[str] = Counter()
    unexpected = 0
    run.start()
    for fault in plan:
        while time.monotonic() < began + fault.time_s or not _inject(run, fault):
            unexpected += _watch(run)
        done[fault.kind] += 1
        logger.info("%d of %d faults: %s", sum(done.values()), len(plan), fault.kind)
    first = run.step
    while time.monotonic() < until or run.step <= first:
        unexpected += _watch(run)
    status = run.stop()
    return done, unexpected + (status not in (0, INTERRUPTED))


def _inject(run: TrainingRun, fault: PlannedFault) -> bool:
    """Inject a fault if there is a process for it: a simulator only after simulators have started."""
    if fault.kind == "trainer_kill":
        run.kill()
        run.start()
        return True
    if not run.is_up or not (workers := run.workers):
        return False
    try:
        inject(fault, workers)
    except PermissionError:
        raise
    except OSError:
        return False  # the worker has just ended
    return True


def _watch(run: TrainingRun) -> int:
    """Wait a little; start the trainer again if it has ended and return how often it had: 0 or 1.

    Raises:
        OSError: It was refused, as it would be again.
    """
    time.sleep(PAUSE_S)
    if not run.is_running:
        status = run.wait()
        if status == REFUSED:
            raise OSError(f"the trainer ended with status {status}: {run.last_error}")
        logger.error("the trainer ended with status %d; see %s", status, run.output_dir)
        run.start()
        return 1
    run.sample()
    return 0


def _restarts(run_dir: Path, steps: int) -> int:
    return sum(record["rollout/restarts"] for record in read_steps(run_dir, METRICS_NAME, steps))


def _throughput_ratio(disturbed: Path, undisturbed: Path, steps: int) -> float | None:
    """Compare the pace of the collections in which neither run replaced a worker or built a scene."""
    ours, theirs = (
        {record["step"]: record for record in read_steps(folder, METRICS_NAME, steps)}
        for folder in (disturbed, undisturbed)
    )
    clean = [step for step in ours if _is_clean(ours[step]) and _is_clean(theirs[step])]
    if not clean:
        return None
    spent = [sum(records[step]["time/collect_s"] for step in clean) for records in (ours, theirs)]
    return spent[1] / spent[0]


def _is_clean(record: Mapping[str, Any]) -> bool:
    absent = ("time/worker_restart_s", "time/worker_build_s")
    return not record["rollout/restarts"] and not any(name in record for name in absent)
