"""Clients take turns at what one at a time may use."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial

from serving.text.turns import Turns, asking
from tests.waiting import eventually

until = partial(eventually, seconds=15, pause=0.005)


def having(turns: Turns, order: list[str], client: str, seconds: float = 30.0) -> bool:
    """One request of a client, which has its turn for a moment; whether it got one."""
    return copy_context().run(_having, turns, order, client, seconds)


def _having(turns: Turns, order: list[str], client: str, seconds: float) -> bool:
    asking.set(client)
    if not turns.acquire(seconds):
        return False
    try:
        order.append(client)
        time.sleep(0.005)
    finally:
        turns.release()
    return True


def waiting(pool: ThreadPoolExecutor, turns: Turns, clients: str, order: list[str]) -> list[Future[bool]]:
    """Requests of these clients, each begun when the one before waits."""
    begun = []
    for client in clients:
        before = turns.taken
        begun.append(pool.submit(having, turns, order, client))
        until(lambda before=before: turns.taken > before)  # type: ignore[misc]
    return begun


def test_who_asks_once_does_not_wait_for_all_of_who_asks_often() -> None:
    turns, order = Turns(64), list[str]()
    with ThreadPoolExecutor(20) as pool, turns.always():
        begun = waiting(pool, turns, "aaaaaaaabca", order)
    assert all(one.result() for one in begun) and turns.taken == 0
    assert order[:4] == ["a", "b", "c", "a"] and order.count("a") == 9


def test_some_places_are_for_others() -> None:
    turns, order = Turns(8), list[str]()
    with ThreadPoolExecutor(20) as pool, turns.always():
        begun = waiting(pool, turns, "aaaaaa", order)
        assert not having(turns, order, "a")
        begun += waiting(pool, turns, "b", order)
        assert not having(turns, order, "c")  # there is none left
    assert all(one.result() for one in begun)


def test_who_waits_too_long_leaves_nothing_behind() -> None:
    turns, order = Turns(8), list[str]()
    with turns.always():
        assert not having(turns, order, "a", 0.01) and turns.taken == 1
    assert having(turns, order, "a") and turns.taken == 0


def test_many_threads_have_it_one_at_a_time() -> None:
    turns, held, most = Turns(500), 0, 0

    def use(n: int) -> None:
        nonlocal held, most
        asking.set(str(n % 7))
        while not turns.acquire(0.001 * (n % 5)):
            pass
        held += 1
        most = max(most, held)
        held -= 1
        turns.release()

    threads = [threading.Thread(target=use, args=(n,)) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and turns.taken == 0
