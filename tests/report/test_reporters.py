"""Metrics end up in event files that TensorBoard can read."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pi0.ript.report.reporters import TensorBoardReporter


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_numbers_and_words_are_written(tmp_path):
    reporter = TensorBoardReporter(tmp_path)
    reporter.log(1, {"rollout/success_rate": 0.5, "rollout/ended_by": "enough groups"})
    reporter.close()
    (scalar,) = read(tmp_path).Scalars("rollout/success_rate")
    assert (scalar.step, scalar.value) == (1, 0.5)
    assert "rollout/ended_by/text_summary" in read(tmp_path).Tags()["tensors"]


def test_resumed_run_hides_the_steps_it_repeats(tmp_path):
    first = TensorBoardReporter(tmp_path)
    for step in (1, 2, 3):
        first.log(step, {"a": float(step)})
    first.close()
    second = TensorBoardReporter(tmp_path, last_step=1)
    second.log(2, {"a": 20.0})
    second.close()
    values = {event.step: event.value for event in read(tmp_path).Scalars("a")}
    assert values == {1: 1.0, 2: 20.0}
