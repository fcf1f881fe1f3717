"""A shard of a collection: its addresses are fetched, their pictures kept. Runs in workers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nnst import images, ledger, records, storage, web
from nnst.errors import FetchError
from nnst.records import OK, Receipt
from nnst.web import Fetched, Fetcher, Known, Link, WebSettings
from nnst.web.journal import Journal, Row
from nnst.web.keeping import Keeper
from nnst.web.links import FACTS

_BEAT_SECONDS = 1.0
_LONG_SECONDS = 60.0
_MAX_DETAIL = 300


@dataclass(frozen=True, slots=True)
class CollectTask:
    """All that a shard's work needs beside its inputs."""

    out: str
    fingerprint: str
    web: WebSettings
    decode: bool = True  # each picture, for its perceptual hash and to know that it is whole


def as_inputs(shards: Sequence[Sequence[Link]]) -> pa.Table:
    """Links as records.INPUTS: the address is the image, what else is known of it the stamp."""
    rows = [(number, link) for number, links in enumerate(shards) for link in links]
    return pa.table(
        {
            "image": [link.url for _, link in rows],
            "container": [""] * len(rows),
            "offset": [-1] * len(rows),
            "bytes": [0] * len(rows),
            "stamp": [_facts_of(link) for _, link in rows],
            "reason": [link.reason for _, link in rows],
            "shard": [number for number, _ in rows],
        },
        schema=records.INPUTS,
    )


def _facts_of(link: Link) -> str:
    facts = {name: getattr(link, name) for name in FACTS if getattr(link, name) is not None}
    return json.dumps(facts, sort_keys=True, ensure_ascii=False)


def as_links(inputs: pa.Table) -> list[Link]:
    """The links that `as_inputs` made rows of."""
    columns = (inputs[name].to_pylist() for name in ("image", "reason", "stamp"))
    return [
        Link(url, reason=reason, **json.loads(stamp))
        for url, reason, stamp in zip(*columns, strict=True)
    ]


def collect_shard(task: CollectTask, shard: int, inputs: pa.Table) -> Receipt:
    """Fetch what the shard's journal does not have, and write one row an address."""
    links = as_links(inputs)
    with Journal(task.out, shard) as journal:
        missing = [link for link in links if link.url not in journal.rows]
        if missing:
            asyncio.run(_Gatherer(task, journal).gather(missing))
        rows = [journal.rows[link.url] for link in links]
    images.still_at_work()
    storage.sync()  # the pictures, before the receipt says that they are there
    table = pa.Table.from_pylist(rows, schema=records.COLLECTED)
    part = ledger.write_part(task.out, "pictures", shard, table, records.COLLECTED)
    return Receipt.of(shard, (row["status"] for row in rows), (part,), task.fingerprint)


class _Gatherer:
    """Fetches links, many at a time, and keeps what they give."""

    def __init__(self, task: CollectTask, journal: Journal) -> None:
        self._web = task.web
        self._before = journal.before
        self._keeper = Keeper(task.out, journal, task.decode)

    async def gather(self, links: Sequence[Link]) -> None:
        """Add a row to the journal for each of the links."""
        queues: dict[str, deque[Link]] = {}
        for link in links:
            host = web.host_of(link.url) if link.reason is None else ""
            queues.setdefault(host, deque()).append(link)
        async with Fetcher(self._web) as fetcher:
            beat = asyncio.create_task(self._beat())
            try:
                async with asyncio.TaskGroup() as group:
                    for queue in queues.values():
                        for _ in range(min(self._web.pace.connections, len(queue))):
                            group.create_task(self._empty(queue, fetcher))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None  # one line says more than a group
            finally:
                beat.cancel()

    async def _empty(self, queue: deque[Link], fetcher: Fetcher) -> None:
        """Fetch the links of one host until there are none."""
        while queue:
            link = queue.popleft()
            before = self._before.get(link.url)
            try:
                if link.reason is not None:
                    raise FetchError(link.reason, "known before it was fetched")
                fetched = await fetcher.fetch(link.url, _known(before))
            except FetchError as error:
                await self._keeper.keep(_failed(link, before, error), b"")
                continue
            try:
                await self._keep(link, before, fetched)
            finally:
                fetched.release()

    async def _keep(self, link: Link, before: Row | None, fetched: Fetched) -> None:
        if fetched.unchanged and before:
            row = before | {"fetched": _now(), "code": fetched.code}
            await self._keeper.keep(row, b"")
        else:
            facts = await self._keeper.look(fetched.data)
            await self._keeper.keep(_row(link, **facts, **_told(fetched)), fetched.data)

    async def _beat(self) -> None:
        """Say now and then that this worker is not stuck: a host may ask for a long wait. One
        that decodes for long may well be."""
        while True:
            if self._keeper.looks_for() < _LONG_SECONDS:
                images.still_at_work()
            await asyncio.sleep(_BEAT_SECONDS)


def _failed(link: Link, before: Row | None, error: FetchError) -> Row:
    """The row of an address that gave nothing."""
    if before and before["status"] == OK and error.reason in web.RETRYABLE:
        return before  # a bad day of the server takes no picture away
    return _row(link, status=error.reason, detail=error.detail, code=error.code)


def _now() -> int:
    """The time in the unit of records.COLLECTED: milliseconds."""
    return time.time_ns() // 1_000_000


def _known(before: Mapping[str, Any] | None) -> Known | None:
    if before is None or before["status"] != OK:
        return None
    return Known(before["etag"], before["last_modified"])


def _told(fetched: Fetched) -> Row:
    """What the server said of the picture."""
    return {
        "final_url": fetched.url,
        "code": fetched.code,
        "content_type": fetched.content_type,
        "etag": fetched.etag,
        "last_modified": fetched.last_modified,
    }


def _row(link: Link, **facts: Any) -> Row:
    """A row of records.COLLECTED; columns that are not given are null."""
    said = {name: getattr(link, name) for name in FACTS}
    row = dict.fromkeys(records.COLLECTED.names) | {"url": link.url} | said | facts
    row["detail"] = row["detail"][:_MAX_DETAIL] if row["detail"] else None
    for name, value in row.items():
        if isinstance(value, str) and not value.isascii():  # a server may send what is no text
            row[name] = value.encode("utf-8", "backslashreplace").decode()
    return row | {"fetched": _now()}
