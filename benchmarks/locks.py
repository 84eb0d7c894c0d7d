"""Programs with locks. With ticket locks a program has as many traces as with locks without tickets.

An order of the tickets is an order of the sections, and only tickets of one lock conflict.
"""

from functools import partial

from emu.bench.benchmark import benchmark, make_agents
from emu.engine import Agent, TicketLock, Variable


@benchmark({n: 2 ** max(n - 13, 0) for n in range(1, 25)}, sizes=(16, 18), long=(14, 19, 22))
def filesystem(n: int) -> list[Agent]:
    """Every agent gives a block to its inode; each block and inode has a lock; 26 blocks are too few for all."""
    inode_count, block_count = 32, 26
    inodes = [Variable("inode", 0, number=number) for number in range(inode_count)]
    blocks = [Variable("block", False, number=number) for number in range(block_count)]
    inode_locks = [TicketLock(f"inode{number}") for number in range(inode_count)]
    block_locks = [TicketLock(f"block{number}") for number in range(block_count)]

    async def take(who: str, inode: int, block: int) -> bool:
        async with block_locks[block].held_by(who):
            if await blocks[block].read():
                return False
            await blocks[block].write(True)
            await inodes[inode].write(block + 1)
            return True

    async def create(number: int) -> None:
        who, inode = f"agent{number}", number % inode_count
        async with inode_locks[inode].held_by(who):
            if await inodes[inode].read():
                return
            block = inode * 2 % block_count
            while not await take(who, inode, block):
                block = (block + 1) % block_count

    return make_agents(*[partial(create, number) for number in range(n)])


async def dine(who: str, first: TicketLock, second: TicketLock) -> None:
    """Take the first fork, then the second, and put both down."""
    async with first.held_by(who), second.held_by(who):
        pass


@benchmark({n: 2**n - 1 for n in range(2, 16)}, sizes=(6,), deadlocks=lambda _: 1)
def philosophers(n: int) -> list[Agent]:
    """Every philosopher takes the left fork, then the right one: all may starve."""
    forks = [TicketLock(f"fork{number}") for number in range(n)]
    return make_agents(*[partial(dine, f"agent{seat}", forks[seat], forks[(seat + 1) % n]) for seat in range(n)])


@benchmark({n: 2**n - 2 for n in range(2, 16)}, sizes=(7,))
def philosophers_reversed(n: int) -> list[Agent]:
    """Philosophers of whom the last takes the right fork first: nobody starves."""
    forks = [TicketLock(f"fork{number}") for number in range(n)]
    pairs = [(seat, seat + 1) for seat in range(n - 1)] + [(0, n - 1)]
    return make_agents(*[partial(dine, f"agent{seat}", forks[a], forks[b]) for seat, (a, b) in enumerate(pairs)])


@benchmark({1: 3, 2: 40, 3: 1080}, sizes=(3,))
def twostage(n: int) -> list[Agent]:
    """All agents but the last fill a first and then a second variable, each under its lock; the last reads both."""
    first, second = Variable("first", 0), Variable("second", 0)
    a, b = TicketLock("a"), TicketLock("b")

    async def fill(who: str) -> None:
        async with a.held_by(who):
            await first.write(1)
        async with b.held_by(who):
            await second.write(await first.read() + 1)

    async def read(who: str) -> None:
        async with a.held_by(who):
            filled = await first.read()
        if filled:
            async with b.held_by(who):
                await second.read()

    return make_agents(*[partial(fill, f"agent{number}") for number in range(n)], partial(read, f"agent{n}"))


BENCHMARKS = [filesystem, philosophers, philosophers_reversed, twostage]
