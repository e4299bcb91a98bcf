"""The escalation webhook: what it is told, and what is said when it fails."""

from __future__ import annotations

import asyncio
import json

import pytest

from bzzz.errors import ServiceFaulty, ServiceUnavailable
from bzzz.web.escalation_hook import EscalationHook


async def serve(status: int, seen: list[bytes]) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        seen.append(head + await reader.readexactly(length))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def port(server: asyncio.Server) -> int:
    found: int = server.sockets[0].getsockname()[1]
    return found


async def test_it_is_told_as_json_whatever_is_in_it() -> None:
    seen: list[bytes] = []
    async with await serve(200, seen) as server:
        await EscalationHook(f"http://127.0.0.1:{port(server)}/webhook?sig=1")({"reason": "half \ud83d"})
    assert seen[0].startswith(b"POST /webhook?sig=1 HTTP/1.1\r\n")
    assert json.loads(seen[0].split(b"\r\n\r\n", 1)[1]) == {"reason": "half \ud83d"}


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_any_answer_but_success_is_a_failure_that_shows_the_host_alone(status: int) -> None:
    seen: list[bytes] = []
    async with await serve(status, seen) as server:
        with pytest.raises(ServiceFaulty) as caught:
            await EscalationHook(f"http://127.0.0.1:{port(server)}/secret-path")({})
    assert str(status) in str(caught.value)
    assert "secret-path" not in str(caught.value)


async def test_no_answer_is_a_failure_that_shows_the_host_alone() -> None:
    async with await serve(200, []) as server:
        address = f"http://127.0.0.1:{port(server)}/secret-path"
    with pytest.raises(ServiceUnavailable) as caught:
        await EscalationHook(address)({})
    assert "secret-path" not in str(caught.value)


async def test_without_an_address_nobody_is_told() -> None:
    await EscalationHook("")({})
