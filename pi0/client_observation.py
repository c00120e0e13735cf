"""Observations as clients of a policy server send them: images turned and shrunk, the state computed.

openpi's clients do both themselves (openpi examples/libero/main.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pi0.card import PolicyCard
from pi0.images import resize_with_pad
from pi0.records import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientObservation:
    """What a client sends of one moment.

    Attributes:
        images: By camera of the policy, in its order: uint8 [height, width, 3], RGB, turned by 180 degrees
            against what LIBERO renders; sizes may differ.
        state: float64 [8], not normalized: end-effector position (m, 3), axis-angle (3), gripper (2).
    """

    images: tuple[NDArray[np.uint8], ...]
    state: NDArray[np.float64]


def to_observation(client: ClientObservation, card: PolicyCard) -> Observation:
    """Return what the policy acts on: images of the network's size, as LIBERO renders them, and the state.

    An image that has the network's size already reaches the network as it was sent.
    """
    finished = [
        resize_with_pad(image[None, None], card.image_size, card.resize)[0, 0]
        for image in client.images
    ]
    # turned back, because the codec turns what LIBERO renders
    return Observation(images=np.stack(finished)[:, ::-1, ::-1], proprio=client.state)
