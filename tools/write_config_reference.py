"""Write docs/config.md from the schema."""

from pathlib import Path

from pi0.ript.config.reference import config_reference

Path(__file__).parents[1].joinpath("docs/config.md").write_text(config_reference())
