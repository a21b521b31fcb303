"""Clocks: several contestants measured in turn, so that a busy minute falls on all of them.

A thread pool spins for a while after a run and slows down whoever runs next.
So every turn ends only when its process has come to rest, and each contestant whose threads
are its own affair runs in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

K = TypeVar("K")
Run = Callable[[], Any]
Turn = Callable[[], list[float]]  # one turn of a contestant: the seconds of each of its runs

_SPAWN = get_context("spawn")
_REST = 2e-3  # CPU seconds within 20 ms: less is rest


def interleaved(contestants: Mapping[K, Turn], rounds: int) -> dict[K, list[list[float]]]:
    """The turns of each contestant, *rounds* of them, after one that is not counted.

    Everybody has a turn in each round, and each round begins with another.
    """
    names = list(contestants)
    turns: dict[K, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds = contestants[name]()
            if number:
                turns[name].append(seconds)
    return turns


def middle(turns: list[list[float]]) -> float:
    """The median second of all runs of all turns."""
    return median(seconds for turn in turns for seconds in turn)


def times_faster(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """How many times quicker a run of *ours* is: the median over the rounds.

    Each round compares turns that are seconds apart, so that a machine which slows down for minutes
    slows down both.
    """
    pairs = zip(ours, theirs, strict=True)
    return median(median(other) / median(one) for one, other in pairs)


def summary(turns: list[list[float]]) -> dict[str, float]:
    """Seconds of a run: the median of all, that of those that follow a pause, and the least."""
    first = median(seconds[0] for seconds in turns)
    return {"median": middle(turns), "after_a_pause": first, "best": min(map(min, turns))}


def turn(run: Run, runs: int = 1) -> Turn:
    """A contestant that does *run* *runs* times and then comes to rest."""

    def seconds() -> list[float]:
        measured = []
        for _ in range(runs):
            began = time.perf_counter()
            run()
            measured.append(time.perf_counter() - began)
        settle()
        return measured

    return seconds


def side_by_side(streams: Sequence[Run], runs: int = 1) -> Turn:
    """A contestant of several *streams*, each a thread that does its own *runs* times, all at once.

    Its turn is one number: the seconds for which it keeps the machine busy for one run.
    """

    def seconds() -> list[float]:
        ready = Barrier(len(streams) + 1)

        def work(run: Run) -> None:
            ready.wait()
            for _ in range(runs):
                run()

        threads = [Thread(target=work, args=(run,)) for run in streams]
        for thread in threads:
            thread.start()
        ready.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        measured = (time.perf_counter() - began) / (len(streams) * runs)
        settle()
        return [measured]

    return seconds


def settle(longest: float = 2.0) -> float:
    """Wait until no thread of this process spins; the CPU seconds that were spent meanwhile."""
    first, deadline = time.process_time(), time.monotonic() + longest
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(0.02)
        if time.process_time() - before < _REST:
            break
    return time.process_time() - first


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What *function*, of a module's top level, returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as pool:
        return pool.submit(function, *arguments).result()


class Contestant:
    """Runs named cases in a process of its own, when told.

    *make*, a function of a module's top level, is called there; it returns the cases by name.
    """

    def __init__(self, make: Callable[..., Mapping[str, Run]], *arguments: Any) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that the death of the process ends the wait for its answer
        self._pipe.recv()  # ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # the process ends at the end of its input
        self._process.join(10)  # a daemon: it does not outlive this program in any case

    def answer(self, case: str) -> Any:
        """What *case* computes."""
        return self._ask((case, 0))

    def turn(self, case: str, runs: int) -> Turn:
        """The contestant that runs *case* there *runs* times and then comes to rest."""
        return lambda: self._ask((case, runs))

    def _ask(self, question: tuple[str, int]) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()


def _serve(pipe: Connection, make: Callable[..., Mapping[str, Run]], arguments: Any) -> None:
    """The other end of a `Contestant`."""
    cases = make(*arguments)
    pipe.send("ready")
    while True:
        try:
            case, runs = pipe.recv()
        except EOFError:
            return
        pipe.send(turn(cases[case], runs)() if runs else cases[case]())
