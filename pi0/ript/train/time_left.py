"""How long a run still takes, judged by what its steps and evaluations have taken so far."""

from collections.abc import Mapping

STEP_STAGES = ("collect", "update", "checkpoint")


def seconds_left(
    seconds: Mapping[str, float], *, step: int, num_steps: int, evaluates_every: int
) -> float | None:
    """Return the seconds that a run still takes if nothing ends it early; None before its first step.

    Args:
        seconds: Spent so far by stage.
        step: Finished steps.
        num_steps: Steps of the whole run.
        evaluates_every: Steps between evaluations; the first and the last policy are always evaluated.
    """
    if step == 0:
        return None
    per_step = sum(seconds.get(stage, 0.0) for stage in STEP_STAGES) / step
    evaluated = {0, num_steps, *range(0, num_steps, evaluates_every or num_steps)}
    num_done = sum(n < step for n in evaluated)
    per_evaluation = seconds.get("evaluate", 0.0) / num_done
    return (num_steps - step) * per_step + (len(evaluated) - num_done) * per_evaluation
