"""How fast a served run answers several concurrent clients, and how much memory that takes.

    python benchmarks/serve.py --run results/Movie_Critics/DReX/seed-2026

Starts ``recbole-drex serve`` as a process of its own on a free port of this machine. The clients are threads of this
process; each asks again as soon as it has its answer, over one connection, for users in a random order, so that no
user is asked for twice before all were. After a warm-up that asks for every user once it notes the time from sending a
request to having read the answer. What the clients themselves need of the processor is part of what is measured.
Then clients ask for all kinds of things at once, explanations and new users among them; the times are those of the
recommendations without reasons that are asked for meanwhile. Prints two tables and writes
``benchmarks/results/serve.json``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import psutil

import harness
from recbole_drex.errors import DataError
from recbole_drex.utils.files import write_json


def _seconds_of(work: Callable[[], None], clients: int) -> float:
    """How long threads take to do the same work."""
    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


@contextmanager
def served(run: Path, remember: int) -> Iterator[tuple[str, int, psutil.Process]]:
    """Host, port and process of a server of ``run``, which is stopped at the end."""
    command = [sys.executable, "-m", "recbole_drex", "serve", "--run", str(run), "--port", "0"]
    process = subprocess.Popen([*command, "--remember", str(remember)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        address = next((word for word in words if word.startswith("http://")), None)
        if address is None:
            raise DataError(f"the server of {run} did not start")
        parts = urlsplit(address)
        yield str(parts.hostname), int(parts.port or 80), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def get(connection: http.client.HTTPConnection, path: str) -> Any:
    """The answer to a GET request.

    Raises:
        DataError: it is no success.
    """
    connection.request("GET", path)
    response = connection.getresponse()
    content = json.loads(response.read())
    if response.status != 200:
        raise DataError(f"{path}: {response.status} {content['detail']}")
    return content


def user_names(host: str, port: int) -> list[str]:
    """Names of users, all of them if a search for letters and digits finds them."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    names: set[str] = set()
    for first in "0123456789abcdefghijklmnopqrstuvwxyz":
        for second in ("", *"0123456789abcdef"):
            found = get(connection, f"/users?limit=100&query={first}{second}")
            names |= {one["user"] for one in found["users"]}
            if found["total"] <= 100:
                break
    return sorted(names)


def measure(host: str, port: int, paths: list[str], clients: int, requests: int) -> tuple[list[float], float]:
    """Seconds of each request, and of all together, after a warm-up in which every user is asked for."""
    lock, durations, failures = threading.Lock(), [], []
    for number, keep in ((len(paths), False), (requests, True)):
        order = random.Random(number)  # noqa: S311  (an order, no secret)  # nosec B311
        queue: list[str] = []
        while len(queue) < number:
            queue += order.sample(paths, len(paths))
        waiting = iter(queue[:number])

        def work(waiting: Iterator[str] = waiting, keep: bool = keep) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            try:
                while True:
                    with lock:
                        path = next(waiting, None)
                    if path is None:
                        return
                    started = time.perf_counter()
                    connection.request("GET", path)
                    response = connection.getresponse()
                    response.read()
                    if keep:
                        durations.append(time.perf_counter() - started)
                    if response.status != 200:
                        failures.append(response.status)
            finally:
                connection.close()

        seconds = _seconds_of(work, clients)
    if failures or len(durations) != requests:
        raise DataError(f"{len(failures)} requests failed, {requests - len(durations)} had no answer")
    return durations, seconds


_WORDS = ("story", "plot", "combat", "music", "price", "superb", "dull", "zzyzx", "brillig", "10/10", "\U0001f600")


def mixed_request(choice: random.Random, users: Sequence[str], items: Sequence[str]) -> tuple[str, Any]:
    """Path, and the body of a POST request or None: 60 % recommendations, the rest all else, errors too."""
    user, some = quote(choice.choice(users)), choice.sample(items, 3)
    review = " ".join([*choice.choices(_WORDS, k=20), f"w{choice.randrange(10**6)}x"])
    kinds = {
        (f"/recommend?user={user}", None): 60,
        (f"/users?query={user[:5]}", None): 10,
        (f"/profile?user={user}", None): 5,
        (f"/explain?user={user}&top=1", None): 7,
        (f"/explain?user={user}&top=5", None): 3,
        ("/recommend?user=", None): 5,
        ("/recommend", tuple((item, choice.randint(1, 5), "") for item in some)): 5,
        ("/recommend", tuple((item, None, review) for item in some[:2])): 5,
    }
    path, posted = choice.choices(list(kinds), list(kinds.values()))[0]
    if posted is None:
        return path, None
    return path, {"interactions": [dict(zip(("item", "rating", "review"), one, strict=True)) for one in posted]}


def measure_mixed(host: str, port: int, process: psutil.Process, clients: int, requests: int) -> dict[str, Any]:
    """Numbers of answers by their status, times of recommendations, and memory after a third and after all."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    users = [one["user"] for one in get(connection, "/users?limit=100")["users"]]
    items = [one["item"] for one in get(connection, "/items/search?limit=100")["items"]]
    choice, lock = random.Random(0), threading.Lock()  # noqa: S311  (an order, no secret)  # nosec B311
    waiting = iter([mixed_request(choice, users, items) for _ in range(requests)])
    statuses, durations, memory = list[int](), list[float](), list[float]()

    def work() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=120)
        while True:
            with lock:
                path, body = next(waiting, (None, None))
            if path is None:
                return connection.close()
            started = time.perf_counter()
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            with lock:
                if body is None and path.startswith("/recommend") and response.status == 200:
                    durations.append(time.perf_counter() - started)
                statuses.append(response.status)
                memory.append(process.memory_info().rss / 2**20)

    seconds = _seconds_of(work, clients)
    if len(statuses) < requests:
        raise DataError(f"{requests - len(statuses)} requests had no answer")
    p50, p95, p99 = np.percentile(np.array(durations) * 1000, (50, 95, 99))
    return {
        "requests": requests,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "per_second": requests / seconds,
        "memory_mb_after_a_third": memory[requests // 3],
        "memory_mb_after": memory[-1],
    }


def _run(options: argparse.Namespace) -> None:
    kinds = (
        # Name, parameters, users whose best items the server may keep, share of the requests.
        ("each scored again", f"top={options.top}", 0, 1.0),
        ("remembered", f"top={options.top}", 10_000, 1.0),
        ("one, explained", "top=1&explain=true", 0, 0.25),
    )
    rows = []
    for name, parameters, remember, share in kinds:
        with served(options.run, remember) as (host, port, process):
            connection = http.client.HTTPConnection(host, port, timeout=60)
            health = get(connection, "/health")
            paths = [f"/recommend?user={quote(user)}&{parameters}" for user in user_names(host, port)]
            requests = round(options.requests * share)
            for repetition in range(options.repetitions):
                before, load = process.memory_info().rss / 2**20, os.getloadavg()[0]
                durations, seconds = measure(host, port, paths, options.clients, requests)
                p50, p95, p99 = np.percentile(np.array(durations) * 1000, (50, 95, 99))
                row = {
                    "recommend": name,
                    "repetition": repetition + 1,
                    "requests": requests,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "max_ms": max(durations) * 1000,
                    "per_second": requests / seconds,
                    "memory_mb_before": before,
                    "memory_mb_after": process.memory_info().rss / 2**20,
                    "load_before": load,
                }
                rows.append(harness.rounded(row))
    with served(options.run, 10_000) as (host, port, process):
        load = os.getloadavg()[0]
        row = measure_mixed(host, port, process, options.clients, 3 * options.requests // 4)
    mixed = [harness.rounded({**row, "load_before": load})]
    print(f"{health['model']} on {health['dataset']}: {health['users']} users, {health['items']} items;", end=" ")
    print(f"{options.clients} clients, {os.cpu_count()} cores")
    harness.print_rows(rows)
    print("recommendations while everything else is asked for")
    harness.print_rows(mixed)
    described = {"served": health, "clients": options.clients, "machine": harness.machine()}
    write_json(options.output, {**described, "measured": rows, "mixed": mixed})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "serve")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished run")
    parser.add_argument("--clients", type=int, default=8, help="that ask at once (default: 8)")
    parser.add_argument("--requests", type=int, default=4000, help="that are measured (default: 4000)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--top", type=int, default=10, help="recommendations of an answer (default: 10)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
