"""Folders that are changed, and the one line with which they are refused."""

import json

import pytest

from pi0.checkpoint import load_policy


def refusal(folder, error=ValueError, **choices) -> str:
    with pytest.raises(error) as caught:
        load_policy(folder, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
