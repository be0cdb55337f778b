"""/healthz, /readyz and /metrics: a few lines of HTTP, so that no server has to be installed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

Page = Callable[[], tuple[bool, str]]


async def serve(host: str, port: int, pages: Mapping[str, Page]) -> None:
    """Answer GET requests for ever: 200 or 503 and a text, by page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                path = (await reader.readline()).split()[1:2]
                while (await reader.readline()).strip():
                    pass
                page = pages.get(path[0].decode().partition("?")[0]) if path else None
                good, text = page() if page else (False, "no such page")
                status = "200 OK" if good else "503 Service Unavailable" if page else "404 Not Found"
                body = text.encode() + b"\n"
                head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            log.debug("health: %s", error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        await server.serve_forever()
