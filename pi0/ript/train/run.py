"""A whole run: measure, practise, measure again on the same episodes, say what came of it."""

import json
import logging
from pathlib import Path

from pi0.ript.atomic import write_atomically
from pi0.ript.report.summary import TaskOutcomes, write_summary
from pi0.ript.train.evaluate import EpisodeRecord
from pi0.ript.train.trainer import Trainer

logger = logging.getLogger(__name__)


def train_run(trainer: Trainer, run_dir: Path) -> None:
    """Train to the end; evaluations already on disk (of a resumed run) are not repeated."""
    trainer.save_beginning()
    base = evaluation(trainer, run_dir, step=0)
    trainer.train()
    trained = evaluation(trainer, run_dir, trainer.step)
    outcomes = paired_outcomes(base, trained) if base else []
    text = write_summary(run_dir, outcomes, trainer.stopwatch.seconds)
    logger.info("summary of %s\n%s", run_dir, text)


def evaluation(trainer: Trainer, run_dir: Path, step: int) -> list[EpisodeRecord]:
    """Return the held-out records after ``step``, from disk or by running the episodes."""
    path = run_dir / "evaluations" / f"step_{step}.json"
    if path.is_file():
        return [EpisodeRecord(**record) for record in json.loads(path.read_text())]
    assert trainer.step == step, f"the policy stands at step {trainer.step}, not {step}"
    records = trainer.evaluate()
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps([record.to_dict() for record in records], indent=1) + "\n")
    return records


def paired_outcomes(base: list[EpisodeRecord], trained: list[EpisodeRecord]) -> list[TaskOutcomes]:
    """Return the outcomes of both policies per task, episode by episode."""
    names = dict.fromkeys((record.suite, record.task_id, record.task) for record in base)
    return [
        TaskOutcomes(
            task=f"{suite}/{task_id} {task}",
            base=_outcomes(base, suite, task_id),
            trained=_outcomes(trained, suite, task_id),
        )
        for suite, task_id, task in names
    ]


def _outcomes(records: list[EpisodeRecord], suite: str, task_id: int) -> tuple[bool, ...]:
    return tuple(
        record.is_success
        for record in records
        if (record.suite, record.task_id) == (suite, task_id)
    )
