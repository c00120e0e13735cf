"""openpi's own PyTorch model, run in openpi's environment: WORK/theirs and WORK/inputs.safetensors -> WORK/actions.safetensors."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import openpi.models.gemma
import openpi.models_pytorch.gemma_pytorch as networks
import torch
from openpi.models_pytorch.pi0_pytorch import PI0Pytorch
from safetensors.torch import load_file, load_model, save_file
from shrink import shrink, table

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@torch.no_grad()
def main() -> None:
    """Load strictly, act, write."""
    work, model_name = Path(sys.argv[1]), sys.argv[2]
    sizes = json.loads((work / "sizes.json").read_text())
    openpi.models.gemma.get_config = table(sizes)
    shrink(networks, "PaliGemmaForConditionalGeneration", "GemmaForCausalLM", sizes)
    config = SimpleNamespace(
        pi05=model_name == "pi05", paligemma_variant="gemma_2b", action_expert_variant="gemma_300m",
        dtype="float32", action_dim=32, action_horizon=sizes["horizon"],
    )  # fmt: skip
    model = PI0Pytorch(config).eval()
    torch.set_float32_matmul_precision("highest")  # building it asked for less than float32
    load_model(model, work / "theirs/model.safetensors", strict=True)
    given = load_file(work / "inputs.safetensors")
    pixels = given["images"].permute(0, 1, 4, 2, 3).float() / 255.0 * 2.0 - 1.0
    absent = torch.full_like(pixels[:, 0], -1.0)
    shown = torch.ones(len(pixels), dtype=torch.bool)
    observation = SimpleNamespace(
        images=dict(zip(CAMERAS, (pixels[:, 0], pixels[:, 1], absent), strict=True)),
        image_masks=dict(zip(CAMERAS, (shown, shown, ~shown), strict=True)),
        tokenized_prompt=given["tokens"], tokenized_prompt_mask=given["mask"],
        token_ar_mask=None, token_loss_mask=None, state=given["state"],
    )  # fmt: skip
    # Of the class: the instance's is compiled, which takes minutes and gives the same numbers.
    actions = PI0Pytorch.sample_actions(
        model, "cpu", observation, noise=given["noise"], num_steps=sizes["steps"]
    )
    save_file({"actions": actions.contiguous()}, work / "actions.safetensors")


if __name__ == "__main__":
    main()
