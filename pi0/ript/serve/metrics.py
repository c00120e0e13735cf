"""Rates and latencies of a server, as ``/metrics`` shows them."""

import time
from collections import deque
from collections.abc import Sequence

import numpy as np

RECENT = 1000  # responses that latencies are taken from
WINDOW_S = 60.0


class ServerMetrics:
    """Counts what a server does; read and written by its event loop alone."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.num_connections = 0
        self._num_refused = 0
        self._num_responses = 0
        self._num_calls = 0
        self._num_rows = 0
        self._ended_at: deque[float] = deque(maxlen=RECENT)
        self._total_ms: deque[float] = deque(maxlen=RECENT)
        self._infer_ms: deque[float] = deque(maxlen=RECENT)

    def add_call(self, num_rows: int, seconds: float) -> None:
        """Count one call of the policy."""
        self._num_calls += 1
        self._num_rows += num_rows
        self._infer_ms.append(1000 * seconds)

    def add_response(self, seconds: float) -> None:
        """Count an answered request; ``seconds`` from its arrival until it was sent."""
        self._num_responses += 1
        self._ended_at.append(time.monotonic())
        self._total_ms.append(1000 * seconds)

    def add_refusal(self) -> None:
        """Count a request that was answered with an error."""
        self._num_refused += 1

    def to_dict(self) -> dict[str, object]:
        """Return all of it, ready for JSON; shares and times are null where there is nothing yet."""
        now = time.monotonic()
        recent = [at for at in self._ended_at if now - at <= WINDOW_S]
        return {
            "uptime_s": round(now - self._began, 3),
            "connections": self.num_connections,
            "responses": self._num_responses,
            "errors": self._num_refused,
            "policy_calls": self._num_calls,
            "requests_per_call": self._num_rows / self._num_calls if self._num_calls else None,
            "responses_per_s": _rate(recent, now),
            "latency_ms": _percentiles(self._total_ms),
            "policy_ms": _percentiles(self._infer_ms),
        }


def _rate(ended_at: Sequence[float], now: float) -> float:
    """Return responses per second since the oldest of those that are counted."""
    return len(ended_at) / max(now - ended_at[0], 1e-3) if ended_at else 0.0


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    names = ("p50", "p95", "p99")
    if not values:
        return dict.fromkeys(names)
    found = np.percentile(np.array(values), [50, 95, 99])
    return {name: round(float(value), 3) for name, value in zip(names, found, strict=True)}
