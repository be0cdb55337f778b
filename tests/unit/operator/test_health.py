"""/healthz and its like over real HTTP."""

from __future__ import annotations

import asyncio
import socket

from storagepair_operator import health


def test_pages_answer_with_200_503_and_404() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        pages = {"/good": lambda: (True, "fine"), "/bad": lambda: (False, "why")}
        task = asyncio.create_task(health.serve("127.0.0.1", port, pages))
        await asyncio.sleep(0.05)
        answers = [await ask(port, path) for path in ("/good?verbose", "/bad", "/other")]
        assert [(status, body) for status, body in answers] == [
            ("200", "fine"),
            ("503", "why"),
            ("404", "no such page"),
        ]
        task.cancel()

    async def ask(port: int, path: str) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return head.split()[1], body.strip()

    asyncio.run(scenario())
