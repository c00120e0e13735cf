"""A batch of observations in, a batch of action chunks out; and the same numbers again for learning.

Acting and scoring share one prefix and one velocity function, always in eval mode.

Shape legend: B samples, N cameras, L prefix tokens, S denoise steps, H actions per chunk, h executed
actions, A model action dims, R noise draws per sample.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pi0.card import ENV_ACTION_DIM, PolicyCard, Protocol
from pi0.codec import Codec
from pi0.inputs import Inputs, encode_inputs, on_device, padded_size, proprio_of, repeated_first
from pi0.model.architecture import vlm_sizes
from pi0.model.cache import PrefixCache
from pi0.model.fast_path import Denoising, require_alike
from pi0.model.lora import LoraTargets, add_adapters
from pi0.model.network import Pi0Network
from pi0.norm_stats import NormStats
from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.sampler import (
    branches,
    draw_chain,
    draw_noise,
    guided,
    make_schedule,
    transition_means,
)
from pi0.tokenizer import PromptTokenizer


class Pi0Policy:
    """A pi0 network with everything needed to act in LIBERO and to be trained."""

    def __init__(
        self,
        *,
        network: Pi0Network,
        card: PolicyCard,
        stats: NormStats,
        tokenizer: Tokenizer,
        device: torch.device | str,
        batch_size: int,
        not_followed: tuple[str, ...] = (),
        assumed: tuple[str, ...] = (),
    ) -> None:
        """Put the network on the device.

        Args:
            network: Owns the weights; trained in place.
            card: What the policy is given of LIBERO.
            stats: Normalization statistics.
            tokenizer: Of the instructions.
            device: Where the network runs.
            batch_size: Most samples of a network call of ``act``; more are split, fewer padded (``padded_size``). On a
                CPU a chunk never depends on the other samples of a call: where torch uses one thread, as in
                rollouts, bit for bit, else to rounding.
            not_followed: What the files of the checkpoint say and has no effect here, for the card.
            assumed: What they had to say and do not, for the card.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.card = card
        self.not_followed, self.assumed = not_followed, assumed
        self.batch_size = batch_size
        self._compared: set[tuple[Denoising, int]] = set()
        self.codec = Codec(card=card, stats=stats)
        self._prompts = PromptTokenizer(
            tokenizer,
            image_token_id=vlm_sizes(network.config).image_token_id,
            num_image_tokens=network.num_image_tokens * len(card.cameras),
            max_prompt_tokens=card.max_prompt_tokens,
            prompt_format=card.prompt_format,
            prompt_state_dim=card.prompt_state_dim,
        )

    @property
    def spec(self) -> ObservationSpec:
        """Return which images the policy is given; simulators encode them where they arise."""
        return replace(self.card.spec, encoding=self.card.encoding)

    @property
    def protocol(self) -> Protocol:
        """Return the protocol that the policy follows."""
        return self.card.protocol

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the instructions."""
        return self._prompts.tokenizer

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return B action chunks; chunk i depends on observation, instruction and seed i only."""
        numbers = len(observations), len(tasks), len(seeds)
        if len(set(numbers)) > 1:
            raise ValueError("got {} observations, {} tasks, {} seeds".format(*numbers))
        size = self.batch_size
        parts = [slice(start, start + size) for start in range(0, len(observations), size)]
        found = [self._act_once(observations[p], tasks[p], seeds[p], sampling) for p in parts]
        return [chunk for chunks in found for chunk in chunks]

    def encode(self, observations: Sequence[Observation], tasks: Sequence[str]) -> Inputs:
        """Return the tensors of B observations, on the CPU."""
        return encode_inputs(self.codec, self._prompts, observations, tasks)

    def prefix(self, inputs: Inputs) -> PrefixCache:
        """Read observations and instructions; differentiable where vision-language weights are trainable."""
        inputs = inputs.to(self.device)
        return self.network.prefix(inputs.pixels, inputs.token_ids, inputs.is_valid)

    def transition_means(
        self, prefix: PrefixCache, inputs: Inputs, chains: Tensor, sampling: Sampling
    ) -> Tensor:
        """Return the means of all denoise transitions in one packed pass.

        Args:
            prefix: Result of ``prefix(inputs)``.
            inputs: B encoded observations.
            chains: Float32 [B, S + 1, H, A], as in ``Chunk.chain``.
            sampling: How the chains were drawn.

        Returns:
            Float32 [B, S, h, 7]: only what ``act`` adds noise to; compare with
            ``chains[:, 1:, :h, :7]``, whose standard deviations are ``scored_stds``.
        """
        schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        velocity = self.chain_velocities(prefix, inputs, chains, sampling)
        means = transition_means(chains[:, :-1].to(self.device), velocity, schedule)
        return means[:, :, : self.card.execute_steps, :ENV_ACTION_DIM]

    def chain_velocities(
        self, prefix: PrefixCache, inputs: Inputs, chains: Tensor, sampling: Sampling
    ) -> Tensor:
        """Return the velocity at every point of the chains but the last, float32 [B, S, H, A]."""
        schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        times = schedule.times_on(self.device)
        x = chains[:, :-1].to(self.device)
        return self.velocity(prefix, inputs, x, times, guidance=sampling.guidance)

    def velocity(
        self,
        prefix: PrefixCache,
        inputs: Inputs,
        x: Tensor,
        times: Tensor,
        *,
        guidance: float = 1.0,
    ) -> Tensor:
        """Return velocities in one packed pass, or two where guidance mixes both branches.

        Args:
            prefix: Result of ``prefix(inputs)``.
            inputs: B encoded observations.
            x: Float32 [B, R, H, A] on the policy's device.
            times: Float32 [R] or [B, R] in (0, 1].
            guidance: 1 is the network as it is, 0 its unconditional branch.

        Returns:
            Float32 [B, R, H, A].
        """
        state = inputs.state.to(self.device)
        return guided(
            lambda is_conditional: self.network.velocity(
                prefix, state, x, times, is_conditional=is_conditional
            ),
            guidance,
        )

    def features(self, prefix: PrefixCache, inputs: Inputs) -> Tensor:
        """Return what the action expert makes of B observations before noise is drawn, float32 [B, W]."""
        return self.network.features(prefix, inputs.state.to(self.device))

    def scored_stds(self, sampling: Sampling) -> Tensor:
        """Return the standard deviations of the transitions, float32 [S]."""
        schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        return torch.tensor(schedule.stds, dtype=torch.float32, device=self.device)

    def flow_matching_loss(
        self, prefix: PrefixCache, inputs: Inputs, actions: Tensor, noise: Tensor, times: Tensor
    ) -> Tensor:
        """Return the supervised loss per sample, float32 [B]: mean squared velocity error.

        Args:
            prefix: Result of ``prefix(inputs)``.
            inputs: B encoded observations.
            actions: Float32 [B, H, A], model space.
            noise: Standard normal [B, R, H, A].
            times: Float32 [R] or [B, R] in (0, 1].
        """
        actions, noise, times = (x.to(self.device) for x in (actions, noise, times))
        clean = actions[:, None]
        t = times.expand(noise.shape[:2])[..., None, None]
        velocity = self.velocity(prefix, inputs, t * noise + (1.0 - t) * clean, times)
        return (velocity - (noise - clean)).square().mean(dim=(1, 2, 3))

    def trainable_parameters(self, *, expert_only: bool) -> list[nn.Parameter]:
        """Return what training may change; gradients are switched off for everything else."""
        network = self.network.requires_grad_(requires_grad=False)
        chosen = network.expert_parameters() if expert_only else network.all_trainable_parameters()
        for parameter in chosen:
            parameter.requires_grad = True
        return chosen

    def add_adapters(self, *, rank: int, targets: LoraTargets, seed: int) -> list[nn.Parameter]:
        """Train low-rank adapters instead of weights; return them. See ``pi0.model.lora``."""
        return add_adapters(self.network, rank=rank, targets=targets, seed=seed)

    @torch.inference_mode()
    def _act_once(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        num_samples = len(observations)
        schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        noise, steps = draw_noise(
            seeds, sampling.num_steps, self.card.horizon, self.card.action_dim
        )
        has_one = schedule.is_stochastic and sampling.scored_steps == "one"
        size = padded_size(num_samples, self.batch_size, self.device)
        padding = repeated_first(num_samples, size - num_samples)
        inputs = self.encode(observations, tasks).select(padding)
        drawn = self.draw(inputs, noise[padding], sampling, steps[padding] if has_one else None)
        chains = drawn[:num_samples].cpu().numpy()
        actions = self.codec.decode_actions(chains[:, -1], proprio_of(observations))
        return [
            Chunk(
                actions=actions[sample, : self.card.execute_steps],
                chain=chains[sample],
                is_stochastic=schedule.is_stochastic,
                noisy_step=int(steps[sample]) if has_one else None,
            )
            for sample in range(num_samples)
        ]

    @torch.inference_mode()
    def draw(
        self, inputs: Inputs, noise: Tensor, sampling: Sampling, noisy_steps: Tensor | None = None
    ) -> Tensor:
        """Return denoising chains, float32 [B, S + 1, H, A].

        The first ones of every size are compared with those of plain denoising.

        Args:
            inputs: B encoded observations.
            noise: Standard normal [B, S + 1, H, A]; ``noise[:, 0]`` begins the chain.
            sampling: Steps, noise and guidance.
            noisy_steps: Int64 [B], the only step of each sample with noise; None for all steps.

        Raises:
            FastPathError: The network denoises in a fast way, which gives other chains.
        """
        chains, network = self._draw(inputs, noise, sampling, noisy_steps), self.network
        way = network.denoising, len(inputs)
        if network.denoising != "plain" and way not in self._compared:
            with network.plain_denoising():
                plain = self._draw(inputs, noise, sampling, noisy_steps)
            require_alike(chains, plain, network.denoising, network.compute_dtype)
            self._compared.add(way)
        return chains

    def _draw(
        self, inputs: Inputs, noise: Tensor, sampling: Sampling, noisy_steps: Tensor | None
    ) -> Tensor:
        schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        inputs, noise = inputs.to(self.device), on_device(noise, self.device)
        cache = self.prefix(inputs)
        layout = self.network.layout(cache, 1, is_static=True)
        grids = {
            branch: self.network.time_grid(schedule.times, is_conditional=branch)
            for branch in branches(sampling.guidance)
        }

        def velocity(x: Tensor, step: int) -> Tensor:
            return guided(
                lambda branch: self.network.denoise(
                    cache, inputs.state, x, grids[branch][step], layout
                ),
                sampling.guidance,
            )

        is_noisy = torch.zeros(noise.shape[2:], dtype=torch.bool, device=self.device)
        is_noisy[: self.card.execute_steps, :ENV_ACTION_DIM] = True
        steps = None if noisy_steps is None else noisy_steps.to(self.device)
        return draw_chain(velocity, noise, is_noisy, schedule, steps)
