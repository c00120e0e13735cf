"""What is checked before a training run begins, and what ``ript train --check`` prints."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pi0.formats.folder import Choices
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.base import ConfigError
from pi0.ript.config.load import Launch
from pi0.ript.diagnose.checkpoint import Diagnosis, check_checkpoint, choices_of
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.run_checks import check_run
from pi0.ript.diagnose.simulator import check_rendering
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.store import find_last


def findings_of_run(launch: Launch) -> Iterator[Finding]:
    """Yield what is known of a run before anything is loaded or made."""
    config = launch.config
    output_dir = launch.resume or Path(config.output_dir)
    yield from check_run(resolve_tasks(config), output_dir, _diagnose(launch), config)


def print_checks(launch: Launch) -> None:
    """Print every finding, a drawn frame of LIBERO among them.

    Raises:
        ConfigError: Something must be changed before the run can begin.
    """
    findings: list[Finding] = []
    for finding in _all_findings(launch):
        findings.append(finding)
        print(finding.line, flush=True)
    errors = [finding for finding in findings if finding.status == "error"]
    if errors:
        raise ConfigError(
            f"{len(errors)} of {len(findings)} checks failed, first {errors[0].name}: {errors[0].text}"
        )


def _all_findings(launch: Launch) -> Iterator[Finding]:
    yield from findings_of_run(launch)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "frame.png"
        for finding in check_rendering(image):
            yield replace(finding, text=finding.text.replace(f"; see {image}", ""))


def _diagnose(launch: Launch) -> Diagnosis:
    config = launch.config
    if launch.resume is not None and not config.policy.lora.rank:
        return check_checkpoint(find_last(launch.resume) / POLICY_FOLDER, Choices())
    return check_checkpoint(config.policy_path, choices_of(config))
