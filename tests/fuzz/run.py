"""Give the programs many inputs: ``python -m tests.fuzz.run --inputs 10000 --seed 0 --json FILE``.

Ends with status 1 if any input hung, would have shown a traceback or was taken for something else.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from tests.fuzz.judge import FindingError, judge
from tests.fuzz.saved_run import SavedRun, save_run
from tests.fuzz.targets import TARGETS, Target


def attack(target: Target, run: SavedRun, num_inputs: int, number: int) -> Counter[str]:
    """Try ``num_inputs`` inputs; return how many were accepted and refused.

    Raises:
        FindingError: An input did harm; the message has it, as small as it could be made.
    """
    counts: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=num_inputs,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(target.inputs)
    def try_one(value: object) -> None:
        try:
            counts[judge(lambda: target.take(run, value))] += 1
        except FindingError as error:
            raise FindingError(f"{error} <- {value!r:.500}") from error

    try_one()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=sorted(TARGETS))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a refusal may come with a warning
    started = time.monotonic()
    results: dict[str, dict[str, int]] = {}
    findings: list[dict[str, str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(save_run(Path(folder))) as run,
    ):
        for name, target in TARGETS.items():
            if arguments.only not in (None, name):
                continue
            try:
                counts = attack(target, run, round(arguments.inputs * target.share), arguments.seed)
                results[name] = {"inputs": counts.total(), **counts}
            except FindingError as error:
                findings.append({"target": name, "what": str(error)})
            print(f"{name:<22}{results.get(name, findings[-1:])}", flush=True)
    report = {
        "inputs": sum(result["inputs"] for result in results.values()),
        "findings": findings,
        "targets": results,
        "seconds": round(time.monotonic() - started, 1),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['inputs']} inputs, {len(findings)} findings, {report['seconds']} s")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
