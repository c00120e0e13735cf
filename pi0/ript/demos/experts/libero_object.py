"""``libero_object``: ten times something from the floor into the basket."""

from pi0.ript.demos.experts.motion import Expert, Offset
from pi0.ript.demos.experts.pick_and_place import PickAndPlace

HIGH = 0.15  # m above the basket's origin, where cans and boxes are released
TALL = (0.0, 0.0, 0.03)  # what stands tall is held above its middle, so that it hangs upright


def _into_basket(item: str, grasp: Offset = (0.0, 0.0, 0.0), release: float = HIGH) -> PickAndPlace:
    return PickAndPlace(
        item=f"{item}_1_main",
        goal="basket_1_main",
        grasp=grasp,
        release=(0.0, 0.0, release),
        lift=0.2,
    )


LIBERO_OBJECT: dict[int, Expert] = {
    0: _into_basket("alphabet_soup", (0.0, 0.0, 0.01)),
    1: _into_basket("cream_cheese", (-0.02, 0.0, 0.0)),  # else the hand hits a bottle
    2: _into_basket("salad_dressing", TALL, 0.17),
    3: _into_basket("bbq_sauce", TALL, 0.17),
    4: _into_basket("ketchup", TALL, 0.17),
    5: _into_basket("tomato_sauce", (0.0, 0.0, 0.01)),
    6: _into_basket("butter"),
    7: _into_basket("milk", TALL, 0.17),
    8: _into_basket("chocolate_pudding"),
    9: _into_basket("orange_juice", TALL, 0.13),  # tips over when it falls from higher
}
"""Task number -> expert."""
