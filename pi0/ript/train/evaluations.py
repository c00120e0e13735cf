"""``evaluations/step_<n>.json``: the held-out episodes of a run, with a checksum of their own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pi0.ript.atomic import write_atomically
from pi0.ript.train.evaluate import EpisodeRecord

_REMEDY = "put back the file as the run wrote it, or start a new run"


def evaluation_path(run_dir: Path, step: int) -> Path:
    """Return where the evaluation after ``step`` is kept."""
    return run_dir / "evaluations" / f"step_{step}.json"


def write_evaluation(
    path: Path, policy: Mapping[str, object], records: Sequence[EpisodeRecord]
) -> None:
    """Write the records and the card of the policy that they depend on."""
    path.parent.mkdir(exist_ok=True)
    content = {"policy": dict(policy), "episodes": [record.repeatable() for record in records]}
    text = json.dumps(content | {"sha256": _digest(content)}, indent=1)
    write_atomically(path, text + "\n")


def read_evaluation(path: Path) -> list[EpisodeRecord]:
    """Return the records as they were written.

    Raises:
        ValueError: The file holds anything else.
    """
    try:
        content = json.loads(path.read_text())
        digest = content.pop("sha256")
        records = [EpisodeRecord(**record) for record in content["episodes"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no evaluation of a run ({reason}); {_REMEDY}") from None
    if digest != _digest(content):
        raise ValueError(f"{path} does not hold what was written; {_REMEDY}")
    return records


def set_aside(path: Path) -> None:
    """Keep an evaluation of a policy that the run does not keep, beside those of the run."""
    path.replace(path.with_name(f"regressed_{path.name}"))


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
