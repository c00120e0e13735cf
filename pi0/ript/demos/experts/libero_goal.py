"""``libero_goal``: ten things to do on one table."""

from math import pi

from pi0.ript.demos.experts.motion import Expert
from pi0.ript.demos.experts.pick_and_place import InOrder, PickAndPlace
from pi0.ript.demos.experts.touch import Pull, Push, TurnKnob

BOWL, BOTTLE, PLATE = "akita_black_bowl_1_main", "wine_bottle_1_main", "plate_1_main"
CABINET = "wooden_cabinet_1_main"
# The bowl is wider than the gripper opens: it is held by its rim.
RIGHT_RIM, LEFT_RIM, NEAR_RIM = (0.0, -0.048, 0.03), (0.0, 0.048, 0.03), (-0.048, 0.0, 0.03)
NECK = (0.0, 0.0, 0.13)  # of the bottle; further down the hand stands on its shoulders

LIBERO_GOAL: dict[int, Expert] = {
    0: Pull(
        body="wooden_cabinet_1_cabinet_middle",
        handle=(0.003, 0.092, 0.11),
        way=(0.0, 0.16, 0.0),
        pitch=-1.5,  # almost level, one finger above the handle and one below
        approach=((0.0, 0.15, 0.15), (0.0, 0.1, 0.05)),
    ),
    1: PickAndPlace(
        item=BOWL, goal="flat_stove_1_burner", grasp=RIGHT_RIM, release=(0.0, 0.0, 0.08), closing_steps=14
    ),
    2: PickAndPlace(
        item=BOTTLE, goal=CABINET, grasp=NECK, approach=0.12, release=(0.0, 0.0, 0.34), lift=0.28, closing_steps=10
    ),
    3: InOrder(
        (
            Pull(
                body="wooden_cabinet_1_cabinet_top",
                handle=(0.003, 0.092, 0.184),
                way=(0.0, 0.155, 0.0),
                pitch=-1.5,
                approach=((0.0, 0.15, 0.1), (0.0, 0.1, 0.05)),
            ),
            PickAndPlace(
                item=BOWL,
                goal="wooden_cabinet_1_cabinet_top",
                grasp=NEAR_RIM,
                release=(0.0, 0.02, 0.24),
                yaw=pi / 2,
                approach=0.28,  # above the open drawer
                retreat=(-0.07, 0.0, 0.02),  # from under the open drawer
                lift=0.25,
                closing_steps=14,
            ),
        )
    ),
    4: PickAndPlace(
        item=BOWL, goal=CABINET, grasp=RIGHT_RIM, release=(0.0, 0.0, 0.27), lift=0.28, closing_steps=14
    ),
    5: Push(
        body=PLATE,
        goal="table",
        place=(-0.025, 0.195, 0.033),  # the corner that needs the cream cheese to move least
        behind=0.085,
        yaw=pi / 2,
        pitch=-0.4,  # away from the handles of the drawers
        approach=(0.0, 0.05, 0.2),  # above bottle and bowl
    ),
    6: PickAndPlace(item="cream_cheese_1_main", goal=BOWL),
    7: TurnKnob(knob="flat_stove_1_button"),
    # the right rim stands below the handles of the drawers
    8: PickAndPlace(
        item=BOWL, goal=PLATE, grasp=LEFT_RIM, release=(0.0, 0.0, 0.06), closing_steps=14
    ),
    9: PickAndPlace(
        item=BOTTLE,
        goal="wine_rack_1_main",
        grasp=NECK,
        approach=0.12,
        release=(0.0, 0.04, 0.33),
        lift=0.34,
        closing_steps=10,
    ),
}  # fmt: skip
"""Task number -> expert."""
