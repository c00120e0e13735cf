"""What the field checks of every section are made of."""


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)
