"""Make a peer's model tiny: both projects keep their sizes in tables of the code."""

from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any


def shrink(module: ModuleType, paligemma: str, gemma: str, sizes: Mapping[str, Any]) -> None:
    """Wrap the two transformers classes that a module builds its network of.

    Args:
        module: Of the peer, where ``PaliGemmaWithExpertModel`` is defined.
        paligemma: Name in it of the class of the vision-language model.
        gemma: Name in it of the class of the action expert.
        sizes: ``vision`` in transformers' words, and ``vocabulary``.
    """
    vision_language, expert = getattr(module, paligemma), getattr(module, gemma)

    def build_vision_language(config: Any) -> Any:
        config.text_config.vocab_size = sizes["vocabulary"]
        config.projection_dim = config.text_config.hidden_size
        config.vision_config.projection_dim = config.text_config.hidden_size
        for key, value in sizes["vision"].items():
            setattr(config.vision_config, key, value)
        return vision_language(config=config)

    def build_expert(config: Any) -> Any:
        config.vocab_size = sizes["vocabulary"]
        return expert(config=config)

    setattr(module, paligemma, build_vision_language)
    setattr(module, gemma, build_expert)


def table(sizes: Mapping[str, Any]) -> Any:
    """Return what stands in for a peer's function from a variant's name to its sizes."""
    variants = {"gemma_2b": sizes["language"], "gemma_300m": sizes["expert"]}
    return lambda variant: SimpleNamespace(**variants[variant])
