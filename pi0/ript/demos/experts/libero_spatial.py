"""``libero_spatial``: ten times the same bowl onto the plate, from wherever it stands."""

from math import pi

from pi0.ript.demos.experts.motion import Expert, Offset
from pi0.ript.demos.experts.pick_and_place import PickAndPlace

# The bowl is wider than the gripper opens: it is held by its rim, on the side that nothing stands at.
RIGHT_RIM = (0.0, -0.048, 0.03)
LEFT_RIM = (0.0, 0.048, 0.03)
NEAR_RIM = (-0.048, 0.0, 0.03)  # near the robot; the fingers are turned to close across it


def _onto_plate(
    grasp: Offset = RIGHT_RIM,
    *,
    yaw: float = 0.0,
    approach: float = 0.06,
    lift: float = 0.12,
    release: float = 0.06,
) -> PickAndPlace:
    return PickAndPlace(
        item="akita_black_bowl_1_main",
        goal="plate_1_main",
        grasp=grasp,
        release=(0.0, 0.0, release),
        yaw=yaw,
        approach=approach,
        lift=lift,
        closing_steps=14,
    )


LIBERO_SPATIAL: dict[int, Expert] = {
    0: _onto_plate(),
    1: _onto_plate(LEFT_RIM),  # the ramekin stands on the right
    2: _onto_plate(),
    3: _onto_plate(),
    4: _onto_plate(NEAR_RIM, yaw=pi / 2, approach=0.1),  # in a drawer, below the cabinet's top
    5: _onto_plate((-0.007, 0.002, 0.055), yaw=pi / 2, release=0.075),  # lies on its side
    6: _onto_plate(NEAR_RIM, yaw=pi / 2, approach=0.1),
    7: _onto_plate(),
    8: _onto_plate(),
    9: _onto_plate(
        NEAR_RIM, yaw=pi / 2, lift=0.05
    ),  # on the cabinet, almost out of reach on the right
}
"""Task number -> expert."""
