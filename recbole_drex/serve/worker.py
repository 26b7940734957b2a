"""The thread that uses the model, which is not thread-safe."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from recbole_drex.explain.interruption import BETWEEN_STEPS
from recbole_drex.serve import limits
from recbole_drex.serve.answers import Busy


class Worker:
    """Executes one job after the other; small jobs are executed first, and between the steps of large jobs.

    A job whose caller is cancelled is skipped, or ends at its next step.

    Args:
        max_large: maximum number of waiting and running large jobs.
        max_of_client: maximum number of these per client.
        seconds: time limit of a large job, including waiting.
    """

    def __init__(
        self,
        max_large: int = limits.MAX_LARGE,
        max_of_client: int = limits.MAX_LARGE_OF_CLIENT,
        seconds: float = limits.WORK_SECONDS,
    ):
        self.max_large, self.max_of_client, self.seconds = max_large, max_of_client, seconds
        self._thread = ThreadPoolExecutor(1, "model")
        self._small: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self._clients: Counter[str] = Counter()
        self._abandoned = threading.Event()  # of the running large job
        self._in_small = False

    async def small(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function``, which takes milliseconds."""
        future: Future[Any] = Future()
        self._small.put((future, function, arguments))
        self._thread.submit(self._do_small)
        return await asyncio.wrap_future(future)

    async def large(self, client: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function``, which regularly calls :func:`~recbole_drex.explain.interruption.between_steps`.

        Raises:
            Busy: there are too many large jobs, or the job took too long.
        """
        if self._clients.total() >= self.max_large or self._clients[client] >= self.max_of_client:
            raise Busy(f"{self._clients.total()} large requests are in progress; try again")
        self._clients += Counter({client: 1})
        abandoned = threading.Event()
        try:
            future = asyncio.wrap_future(self._thread.submit(self._do_large, abandoned, function, arguments))
            return await asyncio.wait_for(future, self.seconds)
        except asyncio.TimeoutError as error:
            raise Busy(f"the request took longer than {self.seconds:g} seconds; send a smaller one") from error
        finally:
            abandoned.set()
            self._clients -= Counter({client: 1})  # also drops zero counts

    def between_steps(self) -> None:
        """Execute waiting small jobs, and end the large job if its caller was cancelled; no-op in a small job."""
        if self._in_small:
            return
        self._do_small()
        if self._abandoned.is_set():
            raise _AbandonedError

    def close(self) -> None:
        """End at the next step, and start no more jobs."""
        self._abandoned.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _do_small(self) -> None:
        self._in_small = True
        while not self._small.empty():  # only this thread takes from it
            future, function, arguments = self._small.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # raised in the caller
                    future.set_exception(error)
        self._in_small = False

    def _do_large(self, abandoned: threading.Event, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._abandoned = abandoned
        hook = BETWEEN_STEPS.set(self.between_steps)
        try:
            self.between_steps()
            return function(*arguments)
        finally:
            BETWEEN_STEPS.reset(hook)


class _AbandonedError(Exception):
    """Ends a job whose caller was cancelled."""
