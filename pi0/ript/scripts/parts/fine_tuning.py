"""From the flags of ``ript sft`` to the objects of a fine-tuning."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pi0.checkpoint import new_policy
from pi0.codec import Codec
from pi0.policy import Pi0Policy
from pi0.ript.algo.reference import Snapshot
from pi0.ript.build_learner import build_engine
from pi0.ript.build_policy import build_policy, choose_device
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.config.policy import LoraConfig, PolicyConfig
from pi0.ript.config.schema import DistributedConfig, TrainConfig, TrainingConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.datasets.frames import (
    Frames,
    Indices,
    episode_slice,
    frames_of_episodes,
    require_horizon,
)
from pi0.ript.datasets.opening import open_frames
from pi0.ript.interfaces import Ranks
from pi0.ript.scripts.parts.policy_flags import read_overrides
from pi0.ript.sft.draws import (
    Draw,
    Draws,
    held_out_draws,
    new_generator,
    restored_generator,
    shares,
)
from pi0.ript.sft.run import numbers_of
from pi0.ript.sft.settings import SftSettings
from pi0.ript.sft.statistics import compute_stats, groups_by_task
from pi0.ript.sft.trainer import SftTrainer, trained_parameters
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.state import TrainingState
from pi0.tiny import PROMPT_TOKENS, tiny_card, tiny_pi0_config
from pi0.tokenizer import build_tiny_tokenizer, longest_prompt

MOST_HELD_OUT_FRAMES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A data set and which of its frames are for what."""

    frames: Frames
    trained: Indices
    held_out: Indices

    def words(self) -> str:
        """Return e.g. ``1200 frames of 10 episodes (120 held out) of FOLDER``."""
        index = self.frames.episode_index
        episodes = "" if index is None else f" of {len(np.unique(index[self.trained]))} episodes"
        held_out = f" ({len(self.held_out)} held out)" if len(self.held_out) else ""
        return f"{len(self.trained)} frames{episodes}{held_out} of {self.frames.source}"


def sft_config(arguments: argparse.Namespace, settings: SftSettings) -> TrainConfig:
    """Return the settings of policy and optimizer as training knows them."""
    train = arguments.train or ("expert" if arguments.policy else "all")
    return TrainConfig(
        policy_path=str(arguments.policy),
        norm_stats_path=arguments.norm_stats_path,
        policy=PolicyConfig(
            device=arguments.device,
            train_expert_only=train == "expert",
            gradient_checkpointing=arguments.gradient_checkpointing,
            lora=LoraConfig(
                rank=arguments.lora_rank if train == "lora" else 0, targets=arguments.lora_targets
            ),
            protocol=arguments.protocol,
            tokenizer_path=arguments.tokenizer_path,
            overrides=read_overrides(arguments.override),
        ),
        # each step is taken with a share of it: the schedule is the fine-tuning's own
        algo=AlgoConfig(lr=1.0, warmup_steps=0, grad_norm_clip=settings.grad_norm_clip),
        training=TrainingConfig(
            seed=settings.seed, optimizer=OptimizerConfig(weight_decay=settings.weight_decay)
        ),
        distributed=DistributedConfig(strategy=arguments.strategy),
    )


def choose_frames(arguments: argparse.Namespace, cameras: tuple[str, ...], horizon: int) -> Chosen:
    """Open the data set and choose episodes.

    Raises:
        ValueError: It does not fit the policy, or nothing is left to train on.
    """
    frames = open_frames(Path(arguments.data), cameras)
    require_horizon(frames, horizon)
    trained = _frames_of(frames, arguments.episodes, "--episodes")
    held_out = trained[:0]
    if arguments.held_out is not None:
        held_out = _frames_of(frames, arguments.held_out, "--held_out")
        trained = np.setdiff1d(trained, held_out)
    if not len(trained):
        raise ValueError(
            f"--held_out {arguments.held_out} leaves nothing of --episodes {arguments.episodes} to train on"
        )
    return Chosen(frames=frames, trained=trained, held_out=held_out)


def _frames_of(frames: Frames, text: str, name: str) -> Indices:
    return frames_of_episodes(frames, episode_slice(text, name), name)


def new_tiny_policy(
    chosen: Chosen, seed: int, architecture: str = "pi0", device: torch.device | str = "cpu"
) -> Pi0Policy:
    """Return an untrained tiny policy that knows the words and the statistics of the demonstrations.

    Its prompts have room for the longest instruction, in steps of 8 tokens.
    """
    tokenizer = build_tiny_tokenizer(list(chosen.frames.tasks))
    longest = longest_prompt(tokenizer, chosen.frames.tasks)
    card = tiny_card(max_prompt_tokens=max(PROMPT_TOKENS, -(-longest // 8) * 8))
    num_tokens = tokenizer.get_vocab_size()
    groups = groups_by_task(chosen.frames, chosen.trained)
    return new_policy(
        config=tiny_pi0_config(
            card,
            vocab_size=num_tokens,
            image_token_id=num_tokens,
            architecture="pi05" if architecture == "pi05" else "pi0",
        ),
        card=card,
        stats=compute_stats(chosen.frames, groups, card),
        tokenizer=tokenizer,
        seed=seed,
        device=device,
    )


def open_policy(
    arguments: argparse.Namespace, config: TrainConfig, checkpoint: Path | None
) -> tuple[Pi0Policy, Chosen]:
    """Return the policy, new, as it was given or as a checkpoint has it, and the data it is trained on."""
    saved = checkpoint and checkpoint / POLICY_FOLDER
    if saved and config.policy.lora.rank and arguments.statistics == "data":
        # adapters are trained over the weights that were given, under the statistics that were computed
        config = replace(config, norm_stats_path=str(saved / "norm_stats.json"))
    if arguments.policy or saved:
        policy = build_policy(config, saved)
        chosen = choose_frames(arguments, policy.card.cameras, policy.card.horizon)
        if arguments.statistics == "data":
            card, stats = replace(policy.card, norm_stats_of="data"), policy.codec.stats
            if not saved:
                stats = compute_stats(chosen.frames, [chosen.trained], card)
            policy.card, policy.codec = card, Codec(card=card, stats=stats)
        return policy, chosen
    card = tiny_card()
    chosen = choose_frames(arguments, card.cameras, card.horizon)
    device = choose_device(config.policy.device)
    seed = config.training.seed
    return new_tiny_policy(chosen, seed, arguments.architecture, device), chosen


def build_sft_trainer(
    policy: Pi0Policy,
    chosen: Chosen,
    config: TrainConfig,
    settings: SftSettings,
    state: TrainingState | None,
    ranks: Ranks,
) -> SftTrainer:
    """Return a trainer, at its beginning or where the state of a checkpoint left it.

    Raises:
        ValueError: The frames of a step cannot be shared evenly.
    """
    count, world_size = settings.frames_per_step, ranks.world_size
    if count % world_size:
        raise ValueError(
            f"{world_size} ranks cannot share --frames_per_step {count} evenly; "
            f"set it to {-(-count // world_size) * world_size}"
        )
    engine = build_engine(config, policy, ranks, keeps_weights=settings.ema_decay > 0)
    # a checkpoint's policy is the mean; the engine's state holds the weights that it is of
    mean = Snapshot(trained_parameters(policy)) if settings.ema_decay else None
    if state:
        engine.load_state(state.engine)
    rng = restored_generator(numbers_of(state)) if state else new_generator(settings.seed)
    shape = (policy.card.horizon, policy.card.action_dim)
    probabilities = shares(chosen.frames, chosen.trained, settings.task_weights)
    return SftTrainer(
        policy=policy,
        engine=engine,
        frames=chosen.frames,
        draws=Draws(chosen.trained, probabilities, settings, shape, rng, len(policy.card.cameras)),
        held_out=_held_out(chosen, settings, shape),
        settings=settings,
        ranks=ranks,
        step=state.step if state else 0,
        state=numbers_of(state) if state else {},
        mean=mean,
    )


def _held_out(chosen: Chosen, settings: SftSettings, shape: tuple[int, int]) -> Draw | None:
    if not len(chosen.held_out):
        return None
    most = MOST_HELD_OUT_FRAMES
    return held_out_draws(chosen.held_out, most, settings.draws_per_frame, shape, settings.seed)
