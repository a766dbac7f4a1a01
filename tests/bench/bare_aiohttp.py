"""The least that anything on aiohttp can do: GET each medium and read it to its end. Nothing is checked, kept or written.

`python bare_aiohttp.py URL CA_FILE CONCURRENCY HEADERS NAMES`: the last two are files, CA_FILE may be empty.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop


async def _fetch(session: aiohttp.ClientSession, url: str, names: Iterator[str]) -> int:
    fetched = 0
    for name in names:
        async with session.get(url + name, allow_redirects=False) as answer:
            answer.raise_for_status()
            async for _ in answer.content.iter_any():
                pass
        fetched += 1
    return fetched


async def _run(url: str, ca_file: str, concurrency: int, headers: dict[str, str], names: list[str]) -> None:
    trust = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connector = aiohttp.TCPConnector(limit=concurrency, ssl=trust)
    left = iter(names)
    async with aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False) as session:
        fetched = await asyncio.gather(*(_fetch(session, url, left) for _ in range(concurrency)))
    if sum(fetched) != len(names):
        raise RuntimeError(f"{sum(fetched)} of {len(names)} were fetched")


def main() -> None:
    url, ca_file, concurrency, headers, names = sys.argv[1:]
    told = json.loads(Path(headers).read_text(encoding="ascii"))
    uvloop.run(_run(url, ca_file, int(concurrency), told, Path(names).read_text(encoding="ascii").split()))


if __name__ == "__main__":
    main()
