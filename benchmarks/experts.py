"""How often the scripted experts succeed: ``python benchmarks/experts.py --output outputs/benchmarks/experts.jsonl``.

Every task of the suites that has an expert is tried from LIBERO's own states, each time with fixtures and action noise of
its own, exactly as ``ript demos`` does it but without images. One line of JSON per try; what is in the file is not tried
again, so the program goes on where it was stopped, and ``--tries`` may be raised. ``--summary`` prints the table of docs/results.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import markdown
from benchmarks.parts.measure import output_file
from pi0.records import ObservationSpec
from pi0.ript.config.task import TaskConfig
from pi0.ript.demos.experts.tables import EXPERTS
from pi0.ript.demos.record import attempts, run_expert
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.pool.process_environment import SINGLE_THREADED
from pi0.ript.env.suites import all_tasks, chosen_tasks, task_language

SUITES = "libero_object,libero_spatial,libero_goal"
SPEC = ObservationSpec(cameras=("agentview",), height=16, width=16, quality="fast")
NEVER = 10_000  # control steps between images
TASKS_PER_PROCESS = 4  # scenes leave memory behind
AIM = 0.8  # of the tries succeed, or the table says so


@dataclass(frozen=True, kw_only=True)
class Try:
    """How the expert of a task did once.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        attempt: Which of ``attempts``, from 0.
        is_success: Whether the task was solved.
        num_steps: Control steps that it took.
    """

    suite: str
    task_id: int
    attempt: int
    is_success: bool
    num_steps: int


Task = tuple[str, int]


def try_task(suite: str, task_id: int, numbers: Sequence[int]) -> list[Try]:
    """Let the expert of a task try again, and return how it did in the attempts of these numbers."""
    settings = DemoSettings(max_attempts=max(numbers) + 1, frame_every=NEVER)
    settle = TaskConfig().num_steps_wait
    chosen = list(attempts(suite, task_id, settings))
    found: list[Try] = []
    with closing(Scene(suite, task_id, SPEC, num_slots=1, num_steps_wait=settle)) as scene:
        for number in numbers:
            episode = run_expert(scene, *chosen[number], settings)
            found.append(
                Try(
                    suite=suite,
                    task_id=task_id,
                    attempt=number,
                    is_success=episode.is_success,
                    num_steps=len(episode.actions),
                )
            )
    return found


def read_tries(path: Path) -> dict[Task, list[Try]]:
    """Return what a file holds; a line that was being written when the program ended is left out."""
    found: dict[Task, list[Try]] = {}
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    for each in (Try(**json.loads(line)) for line in lines):
        found.setdefault((each.suite, each.task_id), []).append(each)
    return found


def measure(path: Path, tasks: Sequence[Task], num_tries: int, num_workers: int) -> None:
    """Make the tries that a file does not have yet, and add a line for each."""
    known = {task: {each.attempt for each in tries} for task, tries in read_tries(path).items()}
    missing = {
        task: sorted(set(range(num_tries)) - known.get(task, set()))
        for task in tasks
        if task in EXPERTS
    }
    os.environ.update(SINGLE_THREADED)
    jobs = [(*task, numbers) for task, numbers in missing.items() if numbers]
    size = num_workers * TASKS_PER_PROCESS
    for batch in (jobs[first : first + size] for first in range(0, len(jobs), size)):
        with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool, path.open("a") as file:
            for done in as_completed([pool.submit(try_task, *job) for job in batch]):
                file.writelines(json.dumps(asdict(each)) + "\n" for each in done.result())
                file.flush()


def table(found: dict[Task, list[Try]]) -> list[str]:
    """Return the table: a line per task of the suites that were tried, those without an expert too."""
    header = ["task", "instruction", "successes", "control steps, median and most"]
    suites = dict.fromkeys(suite for suite, _ in found)
    rows = [_cells(task, found.get(task)) for suite in suites for task in all_tasks(suite)]
    return markdown(header, rows)


def _cells(task: Task, tries: Sequence[Try] | None) -> list[str]:
    name, instruction = f"`{task[0]}/{task[1]}`", task_language(*task)
    if tries is None:
        return [name, instruction, "not tried" if task in EXPERTS else "no expert", ""]
    steps = [each.num_steps for each in tries if each.is_success]
    text = f"{len(steps)} of {len(tries)}" + ("" if len(steps) >= AIM * len(tries) else ", too few")
    return [name, instruction, text, f"{median(steps):.0f}, {max(steps)}" if steps else ""]


def main() -> None:
    """Try what is left, or only print what a file holds."""
    parser = argparse.ArgumentParser(description="How often the scripted experts succeed")
    parser.add_argument("--output", type=output_file, required=True, help="a line of JSON per try")
    parser.add_argument("--suites", default=SUITES, help="by default the three with experts")
    parser.add_argument("--tasks", nargs="*", default=[], help="names or indices; default all")
    parser.add_argument("--tries", type=int, default=20, help="per task; default %(default)s")
    parser.add_argument("--num_workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--summary", action="store_true", help="measure nothing, print the table")
    arguments = parser.parse_args()
    if not arguments.summary:
        tasks = chosen_tasks(arguments.suites, arguments.tasks)
        measure(arguments.output, tasks, arguments.tries, arguments.num_workers)
    print("\n".join(table(read_tries(arguments.output))))


if __name__ == "__main__":
    main()
