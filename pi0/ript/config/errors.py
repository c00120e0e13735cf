"""The one error of this folder."""


class ConfigError(ValueError):
    """A setting is wrong; the message is one line: key, value, what is allowed, what to type."""
