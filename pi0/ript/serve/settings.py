"""How a policy server behaves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits and times of a server.

    Attributes:
        batch_size: Requests of one call of the policy at most.
        window_s: How long a call waits for requests of other clients; one client never waits.
        active_s: A client that has neither asked nor been answered for so long is waited for by nobody.
        max_clients: Connections at once; more are refused with 503.
        seed: Of all noise that clients name no seed for.
        api_key: What clients must send as ``Authorization: Api-Key <key>``; None lets everyone in.
        ping_interval_s: How often a connection is asked whether its client is still there.
        ping_timeout_s: A client that does not answer that for so long is taken for gone.
    """

    batch_size: int
    window_s: float
    max_clients: int
    seed: int
    api_key: str | None
    active_s: float = 10.0
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 60.0
