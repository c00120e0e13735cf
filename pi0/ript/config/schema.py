"""Every setting of a run, typed, with its default and its reason. The only place where defaults live.

Field checks live in ``__post_init__``; messages name the dotted key, the value and what is allowed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pi0.ript.config.algo import AlgoConfig
from pi0.ript.config.base import Auto, require
from pi0.ript.config.env import EnvConfig
from pi0.ript.config.policy import PolicyConfig
from pi0.ript.config.sections import OptimizerConfig, RegressionGuardConfig
from pi0.ript.config.task import TaskConfig
from pi0.ript.packed_frames import VideoRate

Strategy = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, from which seed, and what is kept.

    Attributes:
        num_train_steps: Training steps (collect, update).
        seed: The one seed from which every random draw of the run derives.
        save_freq: Steps between checkpoints; the last step is always saved.
        keep_checkpoints: Newest checkpoints kept; older ones are deleted.
        save_full_policy: Which checkpoints hold every weight, the ``last`` one of the run or ``all``; the others
            hold what was trained and name ``policy_path``, which they need to be loaded. Of ``builtin`` all do.
        target_success: Stop once the mean success of rollouts of the last three steps reaches this; null never.
        overlap: Collect the next step while an update is computed, with weights that are one update older;
            needs ``algo.objective`` flow_sde, which makes up for it, and simulators in processes of their own.
        deterministic: On a GPU use algorithms that repeat, so that a run and a resumed one are equal in every bit;
            slower, with more memory for attention. On a CPU they always are.
        memory_limit_gb: Memory, in GB, that trainer and simulators on its machine may take together; near it
            cached scenes are dropped, then the run ends with a checkpoint. ``auto`` is what the machine has.
        regression_guard: What to do when training makes the policy worse.
        optimizer: AdamW settings.
    """

    num_train_steps: int = 20
    seed: int = 42
    save_freq: int = 5
    keep_checkpoints: int = 2
    save_full_policy: Literal["last", "all"] = "last"
    target_success: float | None = None
    overlap: bool = False
    deterministic: bool = False
    memory_limit_gb: float | Auto = "auto"
    regression_guard: RegressionGuardConfig = field(default_factory=RegressionGuardConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in ("num_train_steps", "save_freq", "keep_checkpoints"):
            require(
                getattr(self, name) >= 1, f"training.{name} must be >= 1, got {getattr(self, name)}"
            )
        require(
            self.memory_limit_gb == "auto" or self.memory_limit_gb > 0,
            f"training.memory_limit_gb must be > 0 or auto, got {self.memory_limit_gb}",
        )
        require(
            self.target_success is None or 0 < self.target_success <= 1,
            f"training.target_success must be in (0, 1] or null, got {self.target_success}",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Held-out evaluation with the deterministic ODE, before and after training.

    Attributes:
        rollouts_per_task: Episodes per task, spread over the held-out initial states; 0 switches it off.
        every: Steps between further evaluations, of the same episodes; 0 for none.
        save_videos: Episodes per task that every evaluation saves a video of; the report shows them before and after.
        max_episode_length: Control steps per held-out episode after settling; null takes
            ``task.max_episode_length``, ``suite`` the suite's limit in the policy's protocol.
    """

    rollouts_per_task: int = 100
    every: int = 0
    save_videos: int = 3
    max_episode_length: int | Literal["suite"] | None = None

    def __post_init__(self) -> None:
        for name in ("rollouts_per_task", "every", "save_videos"):
            require(
                getattr(self, name) >= 0,
                f"evaluation.{name} must be >= 0, got {getattr(self, name)}",
            )
        limit = self.max_episode_length
        require(
            not isinstance(limit, int) or limit >= 1,
            f"evaluation.max_episode_length must be >= 1, suite or null, got {limit}",
        )


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Videos of rollouts, and limits for all videos; how many of an evaluation is ``evaluation.save_videos``.

    Attributes:
        save: Save videos of the rollouts of the first initial state of every step; the environment variable
            PI0_DEBUG_SAVE_VIDEO wins over the file.
        dir: Folder of all videos; null takes ``videos`` in the run directory; the environment variable
            PI0_DEBUG_IMAGE_DIR wins over the file.
        rate: ``decisions`` takes the images that are drawn anyway, one per policy step; ``steps`` draws one
            after every control step of the recorded episodes, at a cost that is printed beforehand.
        max_films: Most videos of all rollouts together, and most videos of each evaluation.
        max_megabytes: No further video once those of rollouts, or of an evaluation, take this much.
    """

    save: bool = False
    dir: str | None = None
    rate: VideoRate = "decisions"
    max_films: int = 100
    max_megabytes: float = 100.0

    def __post_init__(self) -> None:
        for name in ("max_films", "max_megabytes"):
            require(
                getattr(self, name) >= 0, f"video.{name} must be >= 0, got {getattr(self, name)}"
            )

    def folder(self, run_dir: Path) -> Path:
        """Return the folder of all videos of a run."""
        return Path(self.dir) if self.dir else run_dir / "videos"


SavedRollouts = Literal["none", "successes", "all"]


@dataclass(frozen=True, kw_only=True)
class RolloutsConfig:
    """What is kept of rollouts besides their lines in ``episodes.jsonl``.

    Attributes:
        save: Keep the executed actions of ``none``, of ``successes`` or of ``all`` rollouts in ``rollouts.jsonl``,
            about 11 kB each; ``ript replay`` makes a data set of them, with an image per control step.
    """

    save: SavedRollouts = "none"


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Switches.

    Attributes:
        use_ript_vla_runner: true = parallel runner, false = serial runner; the environment variable
            USE_RIPT_VLA_RUNNER wins over the file and the command line.
    """

    use_ript_vla_runner: bool = False


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where metrics go besides ``metrics.jsonl``, which is always written.

    Attributes:
        level: Least severity of log lines shown.
        tensorboard: Write TensorBoard files into the run directory.
        wandb: Log to Weights & Biases as well (needs ``pip install 'pi0-ript[wandb]'``).
        wandb_project: Project of the run there.
        wandb_entity: Its user or team; null or empty takes the default of the account.
        wandb_mode: ``online``, ``offline`` (everything stays in the run directory) or ``disabled``; null leaves it
            to the environment variable WANDB_MODE.
        wandb_name: Name of the run there; null takes that of the run directory.
    """

    level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    tensorboard: bool = True
    wandb: bool = False
    wandb_project: str = "pi0-ript"
    wandb_entity: str | None = None
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    wandb_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How several processes that torchrun started train together; without torchrun it has no effect.

    Attributes:
        strategy: ``ddp`` keeps a whole copy of the policy and its optimizer on every rank, ``fsdp``
            shards what is trained over ranks while learning; ``auto`` takes ``ddp`` where it fits.
        timeout_seconds: Seconds after which ranks that wait for another one give it up.
    """

    strategy: Strategy = "auto"
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        require(
            self.timeout_seconds > 0,
            f"distributed.timeout_seconds must be > 0, got {self.timeout_seconds}",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run.

    Attributes:
        exp_name: Name of the run; the run directory is ``output_dir/exp_name`` plus a time stamp.
        policy_path: ``builtin`` or a checkpoint folder.
        output_dir: Folder that receives run directories.
        norm_stats_path: Overrides the normalization statistics of the checkpoint.
    """

    exp_name: str = "ript"
    policy_path: str = "builtin"
    output_dir: str = "outputs"
    norm_stats_path: str | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    algo: AlgoConfig = field(default_factory=AlgoConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        self._check_guard()
        if not self.training.overlap:
            return
        require(
            self.algo.objective == "flow_sde",
            "training.overlap needs algo.objective flow_sde, whose likelihoods make up for older "
            f"weights, got {self.algo.objective}; set training.overlap to false",
        )
        require(
            not self.algo.replay_steps,
            f"training.overlap and algo.replay_steps {self.algo.replay_steps} both learn from older weights' rollouts: "
            "set training.overlap to false or algo.replay_steps to 0",
        )
        require(
            self.env.backend != "inline",
            "training.overlap needs simulators in processes of their own, got env.backend inline; "
            "set env.backend to process or training.overlap to false",
        )
        require(
            not self.evaluation.every,
            "training.overlap keeps the simulators busy between steps, so evaluation.every must be 0, got "
            f"{self.evaluation.every}; set training.overlap to false",
        )

    def _check_guard(self) -> None:
        guard, evaluation = self.training.regression_guard, self.evaluation
        is_fed = guard.measure == "practice" or (evaluation.every and evaluation.rollouts_per_task)
        require(
            guard.drop is None or bool(is_fed),
            "training.regression_guard compares held-out evaluations, but evaluation.every is "
            f"{evaluation.every} and evaluation.rollouts_per_task {evaluation.rollouts_per_task}; set both",
        )
