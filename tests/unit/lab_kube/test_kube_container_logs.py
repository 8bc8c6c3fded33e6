from __future__ import annotations

import asyncio

from pytest_k8snet.lab.apiserver.exec import LogOptions
from pytest_k8snet.lab.kube.container import LogBuffer


async def followed(buffer: LogBuffer, *, close_while_reading: bool) -> list[bytes]:
    """What a slow reader gets who follows while each line that it takes brings another."""
    for line in (b"1\n", b"2\n"):
        buffer.append(line)
    found = []
    async with asyncio.timeout(10):
        async for line in buffer.read(LogOptions(follow=True)):
            found.append(line)
            if len(found) <= 2:
                buffer.append(b"%d\n" % (len(found) + 2))
            if len(found) == (2 if close_while_reading else 4):
                buffer.close()
    return found


def test_who_follows_misses_no_line_that_comes_while_it_is_busy() -> None:
    found = asyncio.run(followed(LogBuffer(), close_while_reading=False))
    assert found == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_the_last_lines_before_the_end_are_not_missed_either() -> None:
    found = asyncio.run(followed(LogBuffer(), close_while_reading=True))
    assert found == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_of_too_much_the_last_is_kept() -> None:
    async def kept() -> list[bytes]:
        buffer = LogBuffer(capacity_bytes=4)
        for line in (b"1\n", b"2\n", b"3\n"):
            buffer.append(line)
        return [line async for line in buffer.read(LogOptions())]

    assert asyncio.run(kept()) == [b"2\n", b"3\n"]
