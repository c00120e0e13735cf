"""Which metrics are drawn where. Metrics that a run did not log leave their line, or chart, out."""

from dataclasses import dataclass
from typing import Literal

Style = Literal["line", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Metrics by name; ``name`` is a regular expression, its group fills ``{}`` in the label."""

    name: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart over steps.

    Attributes:
        key: Identifies it in the page.
        title: What one sees.
        unit: Title of the vertical axis.
        note: How to read it, one sentence.
        series: What is drawn, in the order of the legend.
        style: ``stack`` fills the area between series that add up; with several runs they are lines.
        is_share: Whether values are shares in [0, 1], shown as per cent.
    """

    key: str
    title: str
    unit: str
    note: str
    series: tuple[Series, ...]
    style: Style = "line"
    is_share: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Charts of one part of a training step."""

    title: str
    charts: tuple[Chart, ...]


SECTIONS = (
    Section(
        title="Fine-tuning",
        charts=(
            Chart(
                key="sft-loss",
                title="Flow-matching loss",
                unit="mean squared error of the velocity",
                note="Of each step's frames, and of the same held-out frames and noise every time.",
                series=(
                    Series(name="sft/loss", label="training"),
                    Series(name="sft/held_out_loss", label="held-out"),
                ),
            ),
            Chart(
                key="sft-gradient",
                title="Gradient norm",
                unit="norm before clipping",
                note="Of every optimizer step.",
                series=(Series(name="sft/grad_norm", label="gradient norm"),),
            ),
            Chart(
                key="sft-lr",
                title="Learning rate",
                unit="learning rate",
                note="Linear warm-up, then a cosine to a tenth of the peak.",
                series=(Series(name="sft/lr", label="learning rate"),),
            ),
        ),
    ),
    Section(
        title="Rollouts",
        charts=(
            Chart(
                key="groups",
                title="Groups",
                unit="groups per step",
                note="A group is K rollouts of one initial state; only mixed ones have a signal.",
                series=(
                    Series(name="rollout/groups_accepted", label="accepted"),
                    Series(name="rollout/groups_all_success", label="rejected: all succeeded"),
                    Series(name="rollout/groups_all_failure", label="rejected: all failed"),
                    Series(name="rollout/groups_crashed", label="crashed"),
                ),
                style="stack",
            ),
            Chart(
                key="states",
                title="Initial states",
                unit="share",
                note="Of the candidates, those tried so far; of groups, those expected to end alike.",
                series=(
                    Series(name="rollout/state_coverage", label="tried at least once"),
                    Series(name="rollout/expected_rejection", label="expected rejection"),
                ),
                is_share=True,
            ),
            Chart(
                key="length",
                title="Episode length",
                unit="control steps",
                note="Mean over all rollouts of a step; a policy that got better needs fewer.",
                series=(Series(name="rollout/episode_length_steps", label="mean length"),),
            ),
        ),
    ),
    Section(
        title="Update",
        charts=(
            Chart(
                key="kl",
                title="Distance from the old policy",
                unit="KL divergence, nats",
                note="Between the behavior weights and those after the update.",
                series=(Series(name="update/kl", label="KL"),),
            ),
            Chart(
                key="clip",
                title="Clipped samples",
                unit="share of samples",
                note="Samples whose probability ratio left the clip range, so that their gradient is 0.",
                series=(Series(name="update/clip_fraction", label="clip fraction"),),
                is_share=True,
            ),
            Chart(
                key="replay",
                title="Replayed samples",
                unit="share of samples",
                note="How many of them count, as their likelihood has changed since they were drawn; 1 is all.",
                series=(Series(name="update/effective_samples", label="effective share"),),
                is_share=True,
            ),
            Chart(
                key="gradient",
                title="Gradient norm",
                unit="norm before clipping",
                note="Mean over the optimizer steps of an update.",
                series=(Series(name="update/grad_norm", label="gradient norm"),),
            ),
            Chart(
                key="loss",
                title="Loss",
                unit="loss",
                note="A policy-gradient loss has no scale of its own: watch success instead.",
                series=(Series(name="update/loss", label="loss"),),
            ),
            Chart(
                key="value",
                title="Critic",
                unit="value, discounted reward",
                note="How much of the outcomes its values explain before it has learned from them, and their mean.",
                series=(
                    Series(name="value/explained_variance", label="explained variance"),
                    Series(name="value/mean", label="mean value"),
                ),
            ),
        ),
    ),
    Section(
        title="Time and memory",
        charts=(
            Chart(
                key="time",
                title="Time per stage",
                unit="seconds per step",
                note="Wall time of the stages of a step.",
                series=(
                    Series(name="time/collect_s", label="collect"),
                    Series(name="time/update_s", label="update"),
                    Series(name="time/evaluate_s", label="evaluate"),
                    Series(name="time/checkpoint_s", label="checkpoint"),
                ),
                style="stack",
            ),
            Chart(
                key="busy",
                title="Busy workers",
                unit="share of the rollouts' time",
                note="How much of the time each worker process was computing.",
                series=(Series(name=r"speed/worker_(\d+)_busy_share", label="worker {}"),),
                is_share=True,
            ),
            Chart(
                key="rate",
                title="Throughput",
                unit="control steps per second",
                note="Of all simulators together.",
                series=(Series(name="speed/env_steps_per_s", label="control steps per second"),),
            ),
            Chart(
                key="workers",
                title="What workers did",
                unit="worker seconds per step",
                note="Summed over worker processes.",
                series=(
                    Series(name="time/worker_physics_s", label="physics"),
                    Series(name="time/worker_render_s", label="images"),
                    Series(name="time/worker_restore_s", label="initial states"),
                    Series(name="time/worker_build_s", label="scenes"),
                ),
                style="stack",
            ),
            Chart(
                key="memory",
                title="Memory",
                unit="GB",
                note="Resident memory of this process and of the workers, and what the machine has left.",
                series=(Series(name=r"memory/(.+)", label="{}"),),
            ),
            Chart(
                key="restarts",
                title="Retries and restarts",
                unit="per step",
                note="Episodes that were run again after a crash or ended by diverging physics, and workers that were replaced.",
                series=(
                    Series(name="rollout/num_retries", label="retries"),
                    Series(name="rollout/num_diverged", label="diverged"),
                    Series(name=r"(?:speed|rollout)/(\w*restarts\w*)", label="{}"),
                ),
            ),
        ),
    ),
)
