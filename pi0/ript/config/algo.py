"""The learning rule: section ``algo`` of the configuration."""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from pi0.records import Sampling
from pi0.ript.config.base import require
from pi0.ript.config.sections import CfgConfig, NftConfig, NoiseConfig, ValueConfig

StateSampling = Literal["cycle", "informative"]
ObjectiveName = Literal["flow_sde", "nft", "cfg", "bc"]
SuccessWeight = Literal["equal", "advantage"]
ReplayWeighting = Literal["smooth", "decoupled"]
CriticName = Literal["none", "value"]
PresetName = Literal["none", "parity", "ppo", "paper", "released"]

# These imitate what was executed, injected noise included, and would spread wider with every update.
IMITATORS: tuple[ObjectiveName, ...] = ("cfg", "bc")
IMITATION_FINAL_STD = 0.03

# Which objectives read a knob; knobs that are not listed are read by all of them.
READ_BY: dict[str, tuple[ObjectiveName, ...]] = {
    "scored_steps": ("flow_sde",),
    "ppo_clip_range": ("flow_sde",),
    "ppo_clip_high": ("flow_sde",),
    "dual_clip": ("flow_sde",),
    "kl_stop": ("flow_sde",),
    "mask_unexecuted": ("flow_sde",),
    "replay_steps": ("flow_sde", "bc"),
    "replay_weighting": ("flow_sde",),
    "critic": ("flow_sde", "nft", "cfg"),
    "success_weight": ("bc",),
    "draws_per_row": ("nft", "cfg", "bc"),
    "nft": ("nft",),
    "cfg": ("cfg",),
}


@dataclass(frozen=True, kw_only=True)
class AlgoConfig:
    """The learning rule; docs/objectives.md says which objective reads what.

    Attributes:
        preset: Published settings (pi0/ript/config/presets.py) for every key of this section that is not given.
        objective: ``flow_sde`` (policy gradient), ``nft``, ``cfg`` or ``bc`` (imitate successes).
        rloo_batch_size: K, rollouts per initial state; with 1 the baseline is the mean over the batch.
        demo_batch_size: G, groups wanted per step.
        enable_dynamic_sampling: Reject groups in which every rollout ended alike.
        max_sampling_attempts: At most this many times G groups are tried per step.
        rollout_skip_threshold: An initial state that was solved by all K rollouts is left out this many
            times, then tried again; 0 leaves nothing out.
        state_sampling: ``cycle`` tries initial states in turn; ``informative`` tries those more often whose rollouts will
            probably differ, by the posterior of their success.
        num_epochs: Passes over the collected batch.
        num_minibatches: Optimizer steps per pass.
        micro_batch_size: Samples per backward pass; changes memory, not the gradient.
        lr: Learning rate of AdamW.
        warmup_steps: Optimizer steps over which the learning rate rises linearly.
        grad_norm_clip: Gradient norm bound.
        loss_aggregation: ``trajectory`` weighs every episode alike, ``token`` every policy step.
        reference_weight: Weight of the distance from the policy the run began with; 0 switches it off.
        scored_steps: ``all`` denoise steps are noisy and scored, or ``one``, drawn anew for every policy step.
        ppo_clip_range: Lower clip: ratios below 1 - this are clipped.
        ppo_clip_high: Upper clip: ratios above 1 + this are clipped.
        dual_clip: Bound of the ratio for negative advantages; null for none.
        kl_stop: The update ends when the mean exact KL per transition exceeds this; null for never.
        mask_unexecuted: Leave actions that an episode's end kept from being executed out of the likelihood of the
            last denoise step, after which they change nothing. ``nft``, ``cfg`` and ``bc`` never imitate them.
        replay_steps: M: every update also learns from the accepted groups of the last M training steps; 0 keeps none.
        replay_weighting: How samples of earlier steps are weighed by their likelihood then and now: ``smooth``
            (Gaussian weights, no clip) or ``decoupled`` (importance weights beside the clip, as under ``training.overlap``).
        draws_per_row: Noise levels per policy step and pass.
        success_weight: What a successful rollout counts for ``bc``: all are ``equal``, or by their ``advantage`` over
            their siblings, so that a success which the others missed counts most.
        critic: ``value`` learns what to expect from a policy step on, and tells the steps of an episode apart by it;
            ``none`` gives all of them the advantage of the episode.
        value: Settings of ``critic`` value.
        noise: How much noise rollouts explore with.
        nft: Settings of ``nft``.
        cfg: Settings of ``cfg``.
    """

    preset: PresetName = "none"
    objective: ObjectiveName = "flow_sde"
    rloo_batch_size: int = 8
    demo_batch_size: int = 8
    enable_dynamic_sampling: bool = True
    max_sampling_attempts: int = 3
    rollout_skip_threshold: int = 0
    state_sampling: StateSampling = "cycle"
    num_epochs: int = 2
    num_minibatches: int = 2
    micro_batch_size: int = 64
    lr: float = 3.0e-5
    warmup_steps: int = 4
    grad_norm_clip: float = 1.0
    loss_aggregation: Literal["trajectory", "token"] = "trajectory"
    reference_weight: float = 0.0
    scored_steps: Literal["all", "one"] = "all"
    ppo_clip_range: float = 0.2
    ppo_clip_high: float = 0.2
    dual_clip: float | None = 3.0
    kl_stop: float | None = 0.04
    mask_unexecuted: bool = True
    replay_steps: int = 0
    replay_weighting: ReplayWeighting = "smooth"
    draws_per_row: int = 2
    success_weight: SuccessWeight = "equal"
    critic: CriticName = "none"
    value: ValueConfig = field(default_factory=ValueConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    nft: NftConfig = field(default_factory=NftConfig)
    cfg: CfgConfig = field(default_factory=CfgConfig)

    def __post_init__(self) -> None:
        for name in (
            "rloo_batch_size",
            "demo_batch_size",
            "max_sampling_attempts",
            "num_epochs",
            "num_minibatches",
            "micro_batch_size",
            "draws_per_row",
        ):
            self._check(name, getattr(self, name) >= 1, ">= 1")
        for name in ("lr", "grad_norm_clip", "ppo_clip_range", "ppo_clip_high"):
            self._check(name, getattr(self, name) > 0, "> 0")
        for name in ("warmup_steps", "rollout_skip_threshold", "reference_weight", "replay_steps"):
            self._check(name, getattr(self, name) >= 0, ">= 0")
        self._check("ppo_clip_range", self.ppo_clip_range <= 1, "<= 1")
        self._check("dual_clip", self.dual_clip is None or self.dual_clip > 1, "> 1 or null")
        self._check("kl_stop", self.kl_stop is None or self.kl_stop > 0, "> 0 or null")
        require(
            self.rloo_batch_size > 1 or not self.enable_dynamic_sampling,
            "algo.rloo_batch_size 1 leaves no sibling to disagree with: "
            "set algo.enable_dynamic_sampling to false or algo.rloo_batch_size to >= 2",
        )
        require(
            self.state_sampling == "cycle" or not self.rollout_skip_threshold,
            "algo.rollout_skip_threshold leaves out what algo.state_sampling informative tries seldom by itself: "
            "set one of them",
        )
        require(
            self.state_sampling == "cycle" or self.enable_dynamic_sampling,
            "algo.state_sampling informative looks for groups that algo.enable_dynamic_sampling false does not "
            "ask for: set algo.state_sampling to cycle",
        )
        self._check_replay()
        self._refuse_unread_knobs()
        self._check_critic()

    def sampling(self, step: int, denoise_steps: int) -> Sampling:
        """Return how the chains of rollouts are drawn, in a training step (from 1) with S denoise steps."""
        noise = self.noise
        if noise.scale is None and noise.final_std is None and self.objective in IMITATORS:
            noise = replace(noise, final_std=IMITATION_FINAL_STD)
        return Sampling(
            num_steps=denoise_steps,
            noise_scale=noise.scale_at(step, denoise_steps),
            scored_steps=self.scored_steps,
            guidance=self.cfg.guidance,
        )

    def _check_replay(self) -> None:
        if not self.replay_steps:
            require(
                self.replay_weighting == "smooth",
                f"algo.replay_weighting {self.replay_weighting} weighs samples of earlier steps, but algo.replay_steps "
                "is 0: set it to 1 or more",
            )
            return
        if self.objective == "bc":
            return
        require(
            self.rloo_batch_size > 1,
            f"algo.replay_steps {self.replay_steps} needs siblings to compare with, whatever step they are of: "
            "set algo.rloo_batch_size to >= 2, got 1",
        )
        require(
            self.critic == "none",
            f"algo.replay_steps {self.replay_steps} would let algo.critic {self.critic} judge episodes that it has learned "
            "from: set algo.critic to none or algo.replay_steps to 0",
        )
        require(
            not self.noise.anneal_steps,
            f"algo.replay_steps {self.replay_steps} compares likelihoods under the same noise, but algo.noise.anneal_to "
            f"{self.noise.anneal_to} changes it: set algo.noise.anneal_to to 1 and algo.noise.anneal_steps to 0",
        )

    def _check(self, name: str, condition: bool, allowed: str) -> None:  # noqa: FBT001
        require(condition, f"algo.{name} must be {allowed}, got {getattr(self, name)}")

    @property
    def _by(self) -> str:
        """Return who may have set a key, where that is not plain."""
        return "" if self.preset == "none" else f" by you or by algo.preset {self.preset}"

    def _check_critic(self) -> None:
        if self.critic == "none":
            require(
                self.value == ValueConfig(),
                f"algo.value is set{self._by}, but algo.critic none does not read it; "
                f"remove {'either' if self._by else 'it'} or set algo.critic to value",
            )
            return
        require(
            self.value.baseline == "none" or self.rloo_batch_size > 1,
            "algo.value.baseline siblings needs siblings, got algo.rloo_batch_size 1; "
            "set it to >= 2 or algo.value.baseline to none",
        )
        require(
            self.cfg.windowing_mode == "all",
            "algo.critic value follows episodes from one policy step to the next, got "
            f"algo.cfg.windowing_mode {self.cfg.windowing_mode}, which leaves some out; set it to all",
        )

    def _refuse_unread_knobs(self) -> None:
        untouched = {f.name: f.default for f in fields(self)}
        untouched |= {"nft": NftConfig(), "cfg": CfgConfig()}
        for name, readers in READ_BY.items():
            require(
                self.objective in readers or getattr(self, name) == untouched[name],
                f"algo.{name} is set{self._by}, but objective {self.objective} does not read it; "
                f"remove {'either' if self._by else 'it'} or set algo.objective to {' or '.join(readers)}",
            )
