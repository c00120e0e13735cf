"""Write the package's reference images and states, after an intended change of the simulator's versions.

Run ``tests/env/libero/test_reference_images.py`` and ``benchmarks/exactness.py`` first: what is written here
is what ``ript doctor`` compares every machine with.
"""

from contextlib import closing

from safetensors.numpy import save_file

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.references import (
    FILE,
    NUM_STEPS_WAIT,
    SITUATIONS,
    SPEC,
    key,
    summarize,
)
from pi0.ript.env.libero.scene import Scene


def main() -> None:
    """Draw every situation and write the file."""
    arrays = {}
    for situation in SITUATIONS:
        suite, task_id, *start = situation
        with closing(Scene(suite, task_id, SPEC, 1, NUM_STEPS_WAIT)) as scene:
            drawn = scene.restore(0, make_initial_state(suite, task_id, *start))
            arrays[f"{key(situation)}/images"] = summarize(drawn.images)
            arrays[f"{key(situation)}/state"] = scene.physics_state(0)
    save_file(arrays, FILE)
    print(f"wrote {FILE}, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
