"""LeRobot's own policy, run in LeRobot's environment: WORK/theirs and WORK/inputs.safetensors -> WORK/actions.safetensors."""

import importlib
import json
import sys
from pathlib import Path

import torch
from lerobot.configs.policies import PreTrainedConfig
from safetensors.torch import load_file, save_file
from shrink import shrink, table

CLASSES = {"pi0": "PI0Policy", "pi05": "PI05Policy"}


@torch.no_grad()
def main() -> None:
    """Load by LeRobot's loader, which is strict, act, write."""
    work, name = Path(sys.argv[1]), sys.argv[2]
    sizes = json.loads((work / "sizes.json").read_text())
    module = importlib.import_module(f"lerobot.policies.{name}.modeling_{name}")
    module.get_gemma_config = table(sizes)
    shrink(module, "PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM", sizes)
    forget_sizes(work / "theirs/config.json")
    config = PreTrainedConfig.from_pretrained(work / "theirs")
    config.device = "cpu"
    policy = getattr(module, CLASSES[name]).from_pretrained(work / "theirs", config=config).eval()
    torch.set_float32_matmul_precision("highest")  # building it asked for less than float32
    require_loaded(policy, work / "theirs/model.safetensors")
    given = load_file(work / "inputs.safetensors")
    pixels = given["images"].permute(0, 1, 4, 2, 3).float() / 255.0 * 2.0 - 1.0
    shown = torch.ones(len(pixels), dtype=torch.bool)
    images = [pixels[:, 0], pixels[:, 1], torch.full_like(pixels[:, 0], -1.0)]
    state = [given["state"]] if name == "pi0" else []
    actions = policy.model.sample_actions(
        images, [shown, shown, ~shown], given["tokens"], given["mask"], *state,
        noise=given["noise"], num_steps=sizes["steps"],
    )  # fmt: skip
    save_file({"actions": actions.contiguous()}, work / "actions.safetensors")


def forget_sizes(path: Path) -> None:
    """Take out the sizes that only a network of unusual size needs; LeRobot knows no key for them."""
    content = json.loads(path.read_text())
    for key in ("vlm_config", "dit_config"):
        content.pop(key, None)
    path.write_text(json.dumps(content))


def require_loaded(policy: torch.nn.Module, path: Path) -> None:
    """LeRobot prints what goes wrong while it loads and goes on with random weights; that must not pass."""
    stored, held = load_file(path), policy.state_dict()
    wrong = [name for name in stored if name not in held or not stored[name].equal(held[name])]
    words = stored[
        "model.paligemma_with_expert.paligemma.lm_head.weight"
    ]  # copied to the embedding, too
    empty = [name for name in held.keys() - stored.keys() if not held[name].equal(words)]
    if wrong or empty:
        sys.exit(f"not loaded: {wrong[:3]}, not in the file: {empty[:3]}")


if __name__ == "__main__":
    main()
