"""No producer id is handed out twice, however many ask at once, and the controller is asked once a block."""

import asyncio

from ottla.broker.producer_ids import ProducerIdBlock, ProducerIds


def test_ids_are_unique_across_blocks_under_concurrency() -> None:
    asked = 0

    async def allocate() -> ProducerIdBlock:
        nonlocal asked
        await asyncio.sleep(0.001)
        asked += 1
        return ProducerIdBlock(first=asked * 1000, length=10)

    async def main() -> list[int]:
        ids = ProducerIds(allocate)
        return await asyncio.gather(*(ids.next() for _ in range(95)))

    found = asyncio.run(main())
    assert len(set(found)) == 95
    assert asked == 10


def test_a_failed_allocation_reaches_the_caller_and_the_next_one_succeeds() -> None:
    attempts = iter([OSError("no controller"), ProducerIdBlock(first=0, length=1)])

    async def allocate() -> ProducerIdBlock:
        outcome = next(attempts)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def main() -> int:
        ids = ProducerIds(allocate)
        try:
            await ids.next()
        except OSError:
            return await ids.next()
        raise AssertionError("the failure was swallowed")

    assert asyncio.run(main()) == 0
