"""Figures of sending: what waiting deliveries cost, and what a dead archive costs the others.

    python -m tests.bench_sending

Ratios are of one run on one machine: both sides of each were measured alternately.
"""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from node import dispatcher
from node.breaker import BreakerState
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState
from tests.scripted_archive import answering, closed_port
from tests.unit.node.sending_bench import Bench

LOOKS = 200
LOOKS_A_SECOND = 1 / dispatcher.LOOK_EVERY_S
WAITING_STUDIES, OBJECTS = 50, 20
STUDIES = 3
ROUNDS = 3

Row = tuple[str, float, float, str]


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*waiting(Path(folder, "waiting")), *dead_one_of_three(Path(folder, "three"))]
    for name, value, limit, unit in rows:
        print(f"{name:<72} {value:8.3f} {unit:<4} (at most {limit:g})")


def waiting(folder: Path) -> list[Row]:
    """CPU time of a look at an archive for which 1,000 results wait, and at one for which none do."""
    costs = {}
    for name, studies, down in (("none", 0, False), ("later", WAITING_STUDIES, False), ("down", WAITING_STUDIES, True)):
        folder.joinpath(name).mkdir(parents=True)
        with _ledger(folder / name) as ledger:
            bench = Bench(folder / name, ledger, {"pacs": closed_port()})
            for number in range(2, studies + 2):
                bench.grade(number, objects=OBJECTS)
            for delivery in ledger.due_deliveries(bench.now, limit=10**6) if not down else ():
                later = bench.now + timedelta(hours=1)
                ledger.delivery_postponed(delivery.delivery_id, status="0x0110", not_before=later, now=bench.now)
            if down:
                bench.look()
                assert ledger.archives.health("pacs", now=bench.now).state is BreakerState.OPEN
            bench.look()
            started = time.process_time()
            for _ in range(LOOKS):
                bench.look()
            costs[name] = (time.process_time() - started) / LOOKS * LOOKS_A_SECOND * 100
            assert bench.counts().get(DeliveryState.DUE, 0) == studies * OBJECTS
    of_a_core = "of one core, two looks a second"
    return [
        (f"nothing waits: {of_a_core}", costs["none"], 1, "%"),
        (f"1,000 results wait for their time: {of_a_core}", costs["later"], 1, "%"),
        (f"1,000 results wait for an archive that is down: {of_a_core}", costs["down"], 1, "%"),
    ]


def dead_one_of_three(folder: Path) -> list[Row]:
    """Time until two archives have everything: alone, beside one that refuses, beside one that never answers."""
    took: dict[str, list[float]] = {"alone": [], "refuses": [], "never answers": []}
    with _black_hole() as never:
        for number in range(ROUNDS):
            for name, port in (("alone", None), ("refuses", closed_port()), ("never answers", never)):
                took[name].append(_drain(folder / f"{name}{number}", port))
    alone = median(took["alone"])
    return [
        (f"{2 * STUDIES * OBJECTS} results to two archives", alone, 60, "s"),
        ("... beside a third that refuses connections: times as long", median(took["refuses"]) / alone, 1.1, ""),
        ("... beside a third that never answers: times as long", median(took["never answers"]) / alone, 1.1, ""),
    ]


def _drain(folder: Path, dead_port: int | None) -> float:
    folder.mkdir(parents=True)
    stop, ready = threading.Event(), threading.Event()
    with _ledger(folder) as ledger, answering() as one, answering() as two:
        ports = {"one": one.port, "two": two.port} | ({} if dead_port is None else {"dead": dead_port})
        bench = Bench(folder, ledger, ports)
        bench.now = datetime.now(UTC)
        for number in range(2, STUDIES + 2):
            bench.grade(number, objects=OBJECTS)
        archives = tuple(item.model_copy(update={"proof": "none"}) for item in bench.settings.archives)
        node = bench.settings.node.model_copy(update={"data_dir": folder})
        settings = bench.settings.model_copy(update={"node": node, "archives": archives})
        work = threading.Thread(
            target=dispatcher.run,
            args=(settings,),
            kwargs={"stop": stop, "on_ready": ready.set, "now": lambda: datetime.now(UTC)},
            daemon=True,
        )
        started = time.monotonic()
        work.start()
        while not all(bench.counts(name) == {DeliveryState.DELIVERED: STUDIES * OBJECTS} for name in ("one", "two")):
            assert time.monotonic() - started < 300
            time.sleep(0.05)
        took_s = time.monotonic() - started
        stop.set()
        work.join(10)
    return took_s


@contextmanager
def _ledger(folder: Path) -> Iterator[Ledger]:
    ledger = open_ledger(f"sqlite:///{folder}/node.db")
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield int(server.getsockname()[1])


if __name__ == "__main__":
    main()
