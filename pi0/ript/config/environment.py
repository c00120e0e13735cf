"""Environment variables that stand for settings."""

import logging
from collections.abc import Mapping

from pi0.ript.config.errors import ConfigError

logger = logging.getLogger(__name__)

MEANINGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
SAVE_VARIABLE = "PI0_DEBUG_SAVE_VIDEO"
FOLDER_VARIABLE = "PI0_DEBUG_IMAGE_DIR"
PROCESSED_VARIABLE = "DEBUG_SAVE_PROCESSED"


def read_switch(name: str, environ: Mapping[str, str]) -> bool | None:
    """Return what a variable says, in any case; unset or empty is None, no opinion.

    Raises:
        ConfigError: The variable holds something that is neither yes nor no.
    """
    text = environ[name].strip() if name in environ else ""
    if not text:
        return None
    if text.lower() not in MEANINGS:
        raise ConfigError(f"{name} must be one of {', '.join(MEANINGS)} or unset, got {text!r}")
    return MEANINGS[text.lower()]


def read_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (dotted key, text) of every setting that a variable gives.

    ``PI0_DEBUG_SAVE_VIDEO`` is ``video.save``, ``PI0_DEBUG_IMAGE_DIR`` is ``video.dir``.
    """
    chosen: list[tuple[str, str]] = []
    is_filming = read_switch(SAVE_VARIABLE, environ)
    if is_filming is not None:
        chosen.append(("video.save", str(is_filming).lower()))
    if environ.get(FOLDER_VARIABLE):
        chosen.append(("video.dir", environ[FOLDER_VARIABLE]))
    if read_switch(PROCESSED_VARIABLE, environ):
        logger.warning(
            "%s has no effect; %s=1 films what the policy saw", PROCESSED_VARIABLE, SAVE_VARIABLE
        )
    return tuple(chosen)
