"""Measurements and proofs; each file named in docs/engine.md is a program."""

import pi0.ript.env  # noqa: F401 - chooses headless rendering before mujoco is loaded
