"""Programs share their cores: threads that wait for each other sleep."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from pi0.ript.scripts import cli, exits

def main(argv):
    # The library that torch computes with reads the variable when it is loaded, and only then.
    print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])

exits.run_main(main, [])
"""


@pytest.mark.parametrize(
    ("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_threads_sleep_unless_the_environment_says_otherwise(given, used):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout == f"False {used}\n"
