"""The order in which callers get slots of the engine."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from katago_mcp.scheduling import Claim, Effort, Full, Slots

pytestmark = pytest.mark.anyio

EFFORT = Effort(visits=100, seconds=8.0)


class Desk:
    """Slots, and the ordered list of their holders."""

    def __init__(self, total: int, max_queued: int = 1000) -> None:
        self.slots = Slots(total, max_queued, lambda: None)
        self.order: list[str] = []
        self.release = asyncio.Event()

    def call(self, caller: str, name: str | None = None, *, long: bool = False) -> "asyncio.Task[None]":
        claim = self.slots.claim(caller, EFFORT, long=long)
        return asyncio.create_task(self._hold(claim, name or caller))

    async def _hold(self, claim: Claim, name: str) -> None:
        async with self.slots.slot(claim):
            self.order.append(name)
            await self.release.wait()

    async def finish(self, *tasks: "asyncio.Task[None]") -> list[str]:
        self.release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.order


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_calls_of_one_caller_delay_another_caller_by_one_turn() -> None:
    desk = Desk(1)
    calls = [desk.call("busy") for _ in range(100)]
    calls.append(desk.call("rare"))
    order = await desk.finish(*calls)
    assert order.index("rare") <= 2
    assert len(order) == 101


async def test_callers_take_turns() -> None:
    desk = Desk(1)
    calls = [desk.call(name) for name in ("a", "a", "a", "b", "b", "c")]
    assert await desk.finish(*calls) == ["a", "a", "b", "c", "a", "b"]


async def test_queue_is_limited_but_admits_a_new_caller() -> None:
    desk = Desk(1, max_queued=2)
    calls = [desk.call("busy") for _ in range(3)]
    with pytest.raises(Full):
        desk.call("busy")
    calls.append(desk.call("rare"))
    with pytest.raises(Full):
        desk.call("rare")
    await desk.finish(*calls)


async def test_caller_that_joins_running_work_does_not_wait() -> None:
    desk = Desk(1, max_queued=1)
    claim = desk.slots.claim("first", EFFORT, long=False)
    running = asyncio.create_task(desk._hold(claim, "first"))
    await settle()
    desk.slots.join(claim, "joined")
    waiting = desk.call("first")
    assert desk.slots.saturated
    calls = [running, waiting, desk.call("joined")]
    with pytest.raises(Full):
        desk.call("joined")
    assert await desk.finish(*calls) == ["first", "first", "joined"]


async def test_without_a_queue_waiting_is_rejected() -> None:
    desk = Desk(1, max_queued=0)
    call = desk.call("one")
    with pytest.raises(Full):
        desk.call("another")
    await desk.finish(call)


async def test_long_work_leaves_a_slot_free() -> None:
    desk = Desk(3)
    calls = [desk.call(name, long=True) for name in ("a", "b", "c")]
    calls.append(desk.call("d", "short"))
    await settle()
    assert sorted(desk.order) == ["a", "b", "short"]
    await desk.finish(*calls)


async def test_long_work_uses_the_only_slot() -> None:
    desk = Desk(1)
    assert await desk.finish(desk.call("a", long=True)) == ["a"]


async def test_short_work_runs_before_waiting_long_work_of_the_same_caller() -> None:
    desk = Desk(2)
    calls = [desk.call("a", "long 1", long=True), desk.call("a", "long 2", long=True)]
    calls.append(desk.call("a", "short"))
    await settle()
    assert desk.order == ["long 1", "short"]
    await desk.finish(*calls)


async def test_caller_that_joins_a_claim_adds_its_turn() -> None:
    desk = Desk(1)
    calls = [desk.call("busy") for _ in range(20)]
    claim = desk.slots.claim("busy", EFFORT, long=False)
    calls.append(asyncio.create_task(desk._hold(claim, "joined")))
    desk.slots.join(claim, "rare")
    order = await desk.finish(*calls)
    assert order.index("joined") <= 2
    assert order.count("joined") == 1


def _cancelled_while_waiting(desk: Desk) -> "asyncio.Task[None]":
    return desk.call("b")


def _never_begun(desk: Desk) -> "asyncio.Task[None]":
    async def nothing() -> None:
        desk.slots.withdraw(claim)

    claim = desk.slots.claim("b", EFFORT, long=False)
    return asyncio.create_task(nothing())


@pytest.mark.parametrize("make", [_cancelled_while_waiting, _never_begun])
async def test_unused_ticket_blocks_nobody(
    make: Callable[[Desk], "asyncio.Task[None]"],
) -> None:
    desk = Desk(1)
    first = desk.call("a")
    given_up = make(desk)
    last = desk.call("c")
    await settle()
    given_up.cancel()
    assert await desk.finish(first, given_up, last) == ["a", "c"]
    assert (desk.slots.running, desk.slots.queued) == (0, 0)


async def test_slot_granted_to_cancelled_work_goes_to_the_next() -> None:
    desk = Desk(1)
    first, second, third = desk.call("a"), desk.call("b"), desk.call("c")
    await settle()
    desk.release.set()
    await first
    second.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    assert desk.order[-1] == "c"
    assert (desk.slots.running, desk.slots.queued) == (0, 0)


async def test_load_is_reported_on_every_change() -> None:
    loads: list[tuple[int, int]] = []
    slots = Slots(1, 10, lambda: loads.append((slots.running, slots.queued)))

    async def use() -> None:
        async with slots.slot(slots.claim("a", EFFORT, long=False)):
            pass

    work: Awaitable[None] = use()
    await work
    assert (1, 0) in loads
    assert loads[-1] == (0, 0)


async def test_more_slots_are_granted_to_waiting_work() -> None:
    desk = Desk(1)
    calls = [desk.call(name) for name in "abc"]
    await settle()
    assert desk.order == ["a"]
    desk.slots.resize(3, 1000)
    await settle()
    assert desk.order == ["a", "b", "c"]
    await desk.finish(*calls)


async def test_fewer_slots_do_not_interrupt_running_work() -> None:
    desk = Desk(2)
    calls = [desk.call(name) for name in "ab"]
    await settle()
    desk.slots.resize(1, 0)
    assert (desk.slots.running, desk.slots.saturated) == (2, True)
    with pytest.raises(Full):
        desk.call("c")
    assert await desk.finish(*calls) == ["a", "b"]
