"""The thread that works on the model, which is not made for two callers at once."""

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
    """Works on one job after the other; small jobs are done first, and between the steps of large ones.

    A job whose caller is cancelled is left out, or ends at its next step.

    Args:
        max_large: large jobs that wait or are worked on.
        max_of_client: of them, those of one client.
        seconds: time after which a large job is given up, waiting included.
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
        self._abandoned = threading.Event()  # of the large job that is worked on
        self._in_small = False

    async def small(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns; it takes milliseconds."""
        future: Future[Any] = Future()
        self._small.put((future, function, arguments))
        self._thread.submit(self._do_small)
        return await asyncio.wrap_future(future)

    async def large(self, client: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns; it calls :func:`~recbole_drex.explain.interruption.between_steps` now and then.

        Raises:
            Busy: there is no room for another large job, or the job took too long.
        """
        if self._clients.total() >= self.max_large or self._clients[client] >= self.max_of_client:
            raise Busy(f"{self._clients.total()} requests that take long are being worked on; try again")
        self._clients += Counter({client: 1})
        abandoned = threading.Event()
        try:
            future = asyncio.wrap_future(self._thread.submit(self._do_large, abandoned, function, arguments))
            return await asyncio.wait_for(future, self.seconds)
        except asyncio.TimeoutError as error:
            raise Busy(f"this took longer than {self.seconds:g} seconds; ask for less") from error
        finally:
            abandoned.set()
            self._clients -= Counter({client: 1})  # which forgets those without any

    def between_steps(self) -> None:
        """Do the small jobs that wait, and end the present large job if nobody waits for it; no-op in a small one."""
        if self._in_small:
            return
        self._do_small()
        if self._abandoned.is_set():
            raise _AbandonedError

    def close(self) -> None:
        """End at the next step; nothing is begun any more."""
        self._abandoned.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _do_small(self) -> None:
        self._in_small = True
        while not self._small.empty():  # this thread alone takes from it
            future, function, arguments = self._small.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # handed to the caller
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
    """Ends work for which nobody waits."""
