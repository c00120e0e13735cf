"""Fine-tune a new tiny pi0 or pi0.5 on demonstrations, from random weights.

Examples:
    ript sft --demos demonstrations --output_dir outputs/tiny
    ript sft --demos demonstrations --output_dir outputs/tiny --num_steps 2000 --save_every 500
    ript sft --demos demonstrations --output_dir outputs/tiny_pi05 --architecture pi05
"""

import logging
from pathlib import Path
from typing import get_args

import torch

from pi0.checkpoint import new_policy, save_policy
from pi0.policy import Pi0Policy
from pi0.ript.datasets.demonstrations import Demonstrations, load_demonstrations
from pi0.ript.demos.sft import ProgressLog, SftSettings, demonstration_stats, fine_tune
from pi0.ript.scripts.parts.flags import Parser, add_flags, from_flags
from pi0.tiny import Architecture, tiny_card, tiny_pi0_config
from pi0.tokenizer import build_tiny_tokenizer

logger = logging.getLogger(__name__)


def new_tiny_policy(
    demos: list[Demonstrations], seed: int, architecture: Architecture = "pi0"
) -> Pi0Policy:
    """Return an untrained tiny policy that knows the words and the statistics of the demonstrations."""
    card = tiny_card()
    tokenizer = build_tiny_tokenizer([demo.task for demo in demos])
    num_tokens = tokenizer.get_vocab_size()
    return new_policy(
        config=tiny_pi0_config(
            card, vocab_size=num_tokens, image_token_id=num_tokens, architecture=architecture
        ),
        card=card,
        stats=demonstration_stats(demos, card),
        tokenizer=tokenizer,
        seed=seed,
    )


def main(argv: list[str]) -> None:
    """Train from random weights and save; half precision on disk, as shipped."""
    parser = Parser("ript sft", __doc__)
    parser.add_argument("--demos", type=Path, required=True, help="what ript demos wrote")
    parser.add_argument("--output_dir", type=Path, required=True, help="receives the policy")
    parser.add_argument(
        "--architecture",
        choices=get_args(Architecture),
        default="pi0",
        help="default %(default)s",
    )
    parser.add_argument(
        "--save_every",
        type=int,
        default=0,
        help="also keep the policy every so many steps; default: only the last",
    )
    add_flags(parser, SftSettings)
    arguments = parser.parse_args(argv)
    settings: SftSettings = from_flags(arguments, SftSettings)
    demos = load_demonstrations(arguments.demos)
    policy = new_tiny_policy(demos, settings.seed, arguments.architecture)
    progress = ProgressLog(settings.num_steps)
    for step, loss in fine_tune(policy, demos, settings):
        progress(step, loss)
        if arguments.save_every and (step + 1) % arguments.save_every == 0:
            save_policy(policy, arguments.output_dir / str(step + 1), dtype=torch.float16)
    save_policy(policy, arguments.output_dir, dtype=torch.float16)
    logger.info("saved %s", arguments.output_dir)
