"""Requests of all connections -> one call of the policy at a time, in a thread of its own."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pi0.ript.serve.metrics import ServerMetrics
from pi0.ript.serve.protocol import BadRequestError
from pi0.ript.serve.requests import ActionRequest

logger = logging.getLogger(__name__)

Act = Callable[[Sequence[ActionRequest]], Sequence[NDArray[np.float32]]]
"""Returns one action chunk for every request; called in a thread, one call at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResponse:
    """What came of a request.

    Attributes:
        actions: float32 [H, 7].
        seconds: That the call of the policy took.
    """

    actions: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    request: ActionRequest
    response: asyncio.Future[ActionResponse]


class Batcher:
    """Collects what is waiting and calls the policy with it; the event loop goes on meanwhile."""

    def __init__(
        self,
        act: Act,
        *,
        batch_size: int,
        window_s: float,
        num_active: Callable[[], int],
        metrics: ServerMetrics,
    ) -> None:
        """Prepare the thread.

        Args:
            act: The policy.
            batch_size: Requests of a call at most.
            window_s: How long a call waits for the requests of other clients.
            num_active: Clients that may send a request; a call with one of each waits for nobody.
            metrics: Counts the calls.
        """
        self._act = act
        self._batch_size = batch_size
        self._window_s = window_s
        self._num_active = num_active
        self._metrics = metrics
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")

    async def respond(self, request: ActionRequest) -> ActionResponse:
        """Return the action chunk of a request.

        Raises:
            BadRequestError: The policy could not act on it; the text is for the client.
        """
        response = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(request=request, response=response))
        return await response

    async def run(self) -> None:
        """Call the policy for ever; cancel to stop, which waits for the call in progress."""
        loop = asyncio.get_running_loop()
        with self._thread:
            while True:
                batch = await self._next_batch()
                started = time.monotonic()
                results = await loop.run_in_executor(
                    self._thread, act_on_each, self._act, [waiting.request for waiting in batch]
                )
                seconds = time.monotonic() - started
                self._metrics.add_call(len(batch), seconds)
                for waiting, result in zip(batch, results, strict=True):
                    _settle(waiting.response, result, seconds)

    async def _next_batch(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        closes_at = asyncio.get_running_loop().time() + self._window_s
        while len(batch) < self._batch_size:
            if self._queue.empty() and len(batch) >= self._num_active():
                break
            try:
                async with asyncio.timeout_at(closes_at):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return batch


def act_on_each(
    act: Act, requests: Sequence[ActionRequest]
) -> Sequence[NDArray[np.float32] | BadRequestError]:
    """Return an action chunk or an error for every request; one that fails takes no other with it."""
    try:
        chunks = act(requests)
        assert len(chunks) == len(requests), f"{len(chunks)} answers to {len(requests)} requests"
    except Exception as error:  # noqa: BLE001 - whatever the policy raises, the server goes on
        if len(requests) > 1:
            return [result for each in requests for result in act_on_each(act, [each])]
        return [_refusal(error)]
    return [_require_finite(chunk) for chunk in chunks]


def _refusal(error: Exception) -> BadRequestError:
    """Return what the client is told; what is not about its request stays in the server's log."""
    if isinstance(error, ValueError):
        logger.warning("a request could not be answered: %s", error)
        return BadRequestError(" ".join(str(error).split()))
    logger.error("the policy failed", exc_info=error)
    return BadRequestError(f"the policy failed ({type(error).__name__}); see the server's log")


def _require_finite(chunk: NDArray[np.float32]) -> NDArray[np.float32] | BadRequestError:
    if np.isfinite(chunk).all():
        return chunk
    logger.error("the policy returned actions that are not finite")
    return BadRequestError("the policy returned actions that are not finite; see the server's log")


def _settle(
    response: asyncio.Future[ActionResponse],
    result: NDArray[np.float32] | BadRequestError,
    seconds: float,
) -> None:
    if response.done():  # the connection ended meanwhile
        return
    if isinstance(result, BadRequestError):
        response.set_exception(result)
    else:
        response.set_result(ActionResponse(actions=result, seconds=seconds))
