"""`nnst collect`: sources of the web -> an archive, with one row for every address."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from nnst import config, ledger, records, storage, web
from nnst.config import group, setting
from nnst.errors import InputError, TooManyBad
from nnst.ledger import LeaseSettings
from nnst.web import (
    Fetcher,
    Found,
    LimitSettings,
    PaceSettings,
    RespectSettings,
    SafetySettings,
    SourceSettings,
    WebSettings,
    addresses,
    sources,
    stored,
)
from workflows import collected, fanout, provenance
from workflows.collecting import CollectTask, as_inputs, collect_shard
from workflows.commands import Options, Outcome
from workflows.fanout import FanoutSettings
from workflows.watch import Watch

_WISHES = frozenset({"opted_out", "robots_disallowed"})
_CONTACT = re.compile(r"[!-'*-~]*(@|\.)[!-'*-~]+")


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """Settings of nnst collect."""

    out: str = setting(help="the folder to write the collection to")
    sources: tuple[str, ...] = setting((), "URL lists, pages, sitemaps, searches as SERVICE:QUERY")
    contact: str = setting("", "a mail address or web page of yours, told to every server")
    format: Literal["files", "webdataset"] = setting("files", "files, or webdataset: tars of them")
    retry_failed: bool = setting(False, "fetch again what failed for a reason that may have passed")
    refresh: bool = setting(False, "ask again for what was fetched, if it has changed")
    imglab: str = setting("", "a folder for the new pictures and an XML to draw boxes in")
    allow_private: bool = setting(False, "fetch from private networks and this machine too")
    decode: bool = setting(True, "decode pictures as they come: finds broken and near-alike ones")
    shard_links: int = setting(2000, "addresses in a shard, more where one host has more")
    source: SourceSettings = group(SourceSettings)
    safety: SafetySettings = group(SafetySettings)
    pace: PaceSettings = group(PaceSettings)
    limits: LimitSettings = group(LimitSettings)
    respect: RespectSettings = group(RespectSettings)
    fanout: FanoutSettings = group(FanoutSettings)

    def __post_init__(self) -> None:
        if self.shard_links < 1:
            raise ValueError(f"shard_links must be 1 or more, got {self.shard_links}")
        if self.contact and not _CONTACT.fullmatch(self.contact):
            raise ValueError(
                f"contact must be a mail address or web page, got {self.contact[:80]!r}"
            )


def run(settings: CollectConfig, options: Options) -> Outcome:
    """Find the addresses once, fetch what is missing, commit, and make the archive."""
    out = storage.absolute(settings.out)
    if settings.imglab:
        settings = replace(settings, imglab=storage.absolute(settings.imglab))
    sources.check(settings.sources, settings.contact)
    reach = _web_settings(settings)
    _warn(settings)
    if options.fresh and not options.dry_run:
        ledger.start_fresh(out)
    book = None if options.fresh else _begun(out, settings)
    if book is None:
        found = asyncio.run(_find(settings, reach))
        if len(found.links) > sources.FREE_LINKS and not settings.contact:
            what = f"{len(found.links):,} addresses without a contact"
            raise InputError(what, "give --contact a mail address or web page of yours")
        dealt = sources.shards(found.links, settings.shard_links)
        if options.dry_run:
            return _dry_run(settings, out, found, len(dealt))
        book = ledger.Ledger.create(out, _job(settings, as_inputs(dealt), found))
    if options.dry_run:
        return _dry_run_of(book)
    return _collect(book, settings, reach)


def _collect(book: ledger.Ledger, settings: CollectConfig, reach: WebSettings) -> Outcome:
    lease = LeaseSettings(take_over=settings.fanout.take_over)
    with ledger.held(book.out, lease):
        book.reopen()  # a pass that was cut short as it began
        if book.is_done() and (settings.retry_failed or settings.refresh):
            collected.begin_pass(book, settings.retry_failed, settings.refresh)
    if not book.is_done():
        task = CollectTask(book.out, book.fingerprint, reach, settings.decode)
        work = partial(collect_shard, task)
        with Watch(book.out, book.inputs().num_rows):
            fanout.fan_out(book, work, _alone(settings.fanout), "collect")
    with ledger.held(book.out, lease):
        collected.finish(book, settings.format, _alone(settings.fanout))
        drawn = ("", 0)
        if settings.imglab:
            drawn = collected.write_imglab(book.out, settings.imglab, _comment(settings))
    return _outcome(book, settings, drawn)


def _alone(settings: FanoutSettings) -> FanoutSettings:
    """The same, without a GPU, which fetching has no use for, and without twins: a host that is
    slow, or asks for peace, would be asked twice."""
    return replace(settings, gpus=settings.gpus or 0.0, twin=math.inf)


def _web_settings(settings: CollectConfig) -> WebSettings:
    safety = settings.safety
    if settings.allow_private:
        safety = replace(safety, networks=addresses.EVERYWHERE)
    return WebSettings(settings.contact, safety, settings.pace, settings.limits, settings.respect)


def _warn(settings: CollectConfig) -> None:
    """Say on stderr what is switched off that protects somebody."""
    respect = settings.respect
    off = {
        "--allow-private: addresses of private networks and of this machine are fetched, so a "
        "stranger's list or redirect can reach them": settings.allow_private,
        "safety.insecure: certificates are not checked": settings.safety.insecure,
        "respect: wishes of sites are ignored; do this with your own alone": not (
            respect.robots and respect.headers and respect.tdmrep
        ),
    }
    for text, is_off in off.items():
        if is_off:
            print(f"nnst: WARNING: {text}", file=sys.stderr, flush=True)


def _deciding(settings: CollectConfig) -> dict[str, Any]:
    """What makes a collection another one. Pace, limits and contact may change on the way."""
    named = config.to_dict(settings.source)
    return {
        "sources": sources.digests(settings.sources),
        "source": {name: value for name, value in named.items() if name != "endpoints"},
        "format": settings.format,
        "decode": settings.decode,
        "shard_links": settings.shard_links,
    }


def _begun(out: str, settings: CollectConfig) -> ledger.Ledger | None:
    """The collection that this command began before: its addresses are not looked for again.

    Raises PlanChanged when the folder holds another one.
    """
    if not storage.exists(storage.join(out, "plan", "inputs.parquet")):
        return None
    book = ledger.Ledger.open(out, "collect")
    job = ledger.Job("collect", book.inputs(), _deciding(settings))
    return ledger.Ledger.begun(out, job)


async def _find(settings: CollectConfig, reach: WebSettings) -> Found:
    async with Fetcher(reach) as fetcher:
        return await sources.find(settings.sources, settings.source, fetcher)


def _job(settings: CollectConfig, inputs: Any, found: Found) -> ledger.Job:
    return ledger.Job(
        verb="collect",
        inputs=inputs,
        settings=_deciding(settings),
        source=", ".join(settings.sources),
        notes={
            "skipped": dict(found.skipped),
            "respect": config.to_dict(settings.respect),
            "versions": provenance.versions(),
            "code_commit": provenance.code_commit(),
        },
    )


def _dry_run(settings: CollectConfig, out: str, found: Found, shards: int) -> Outcome:
    hosts = Counter(sources.host(link) for link in found.links if link.reason is None)
    rate = settings.pace.rate
    seconds = max(hosts.values(), default=0) / rate if rate else 0.0
    document = {
        "out": out,
        "addresses": len(found.links),
        "hosts": len(hosts),
        "shards": shards,
        "seconds_at_least": round(seconds),
        "skipped": dict(found.skipped),
    }
    text = (
        f"would fetch {_counted(len(found.links), 'address', 'es')} of "
        f"{_counted(len(hosts), 'host')} in {_counted(shards, 'shard')} into {out}, "
        f"in {seconds:,.0f} s at least (pace.rate={rate:g} a second and host)"
    )
    return Outcome(document, text)


def _counted(count: int, noun: str, many: str = "s") -> str:
    return f"{count:,} {noun}{many if count != 1 else ''}"


def _dry_run_of(book: ledger.Ledger) -> Outcome:
    """What a collection that was begun has left to do."""
    planned = book.inputs().num_rows
    left = planned - book.totals()["rows_in"]
    document = {"out": book.out, "addresses": planned, "left": left}
    return Outcome(document, f"would fetch {left:,} of {planned:,} addresses into {book.out}")


def _comment(settings: CollectConfig) -> str:
    return f"nnst collect {' '.join(settings.sources)}"[:500]


def _outcome(book: ledger.Ledger, settings: CollectConfig, drawn: tuple[str, int]) -> Outcome:
    totals = book.totals()
    table = stored.read(book.out, ["bytes", "group"])
    document = {
        "out": book.out,
        "addresses": totals["rows_in"],
        "pictures": table.num_rows,
        "bytes": sum(table["bytes"].to_pylist()),
        "duplicates": totals["rows_ok"] - table.num_rows,
        "near_duplicates": table.num_rows - len(set(table["group"].to_pylist())),
        "bad": totals["bad"],
        "retryable": sum(totals["bad"].get(reason, 0) for reason in web.RETRYABLE),
        "skipped": dict(book.notes["skipped"]),
        "imglab": drawn[0],
        "new": drawn[1],
    }
    return Outcome(document, _describe(document, settings), _too_many_failed(totals, settings))


def _too_many_failed(totals: Mapping[str, Any], settings: CollectConfig) -> TooManyBad | None:
    """The error of a collection where too much failed. To follow a wish is no failure."""
    failed = {reason: n for reason, n in totals["bad"].items() if reason not in _WISHES}
    counted = {**totals, "bad": failed, "rows_bad": sum(failed.values())}
    return fanout.too_many_bad(counted, settings.fanout)


def _describe(document: Mapping[str, Any], settings: CollectConfig) -> str:
    out = document["out"]
    size = document["bytes"] / 1e6
    lines = [
        f"{document['addresses']:,} addresses, {document['pictures']:,} pictures ({size:,.1f} MB)",
        f"  {document['duplicates']:>6,} addresses gave a picture that another gave too",
        f"  {document['near_duplicates']:>6,} pictures are near duplicates of others",
        *(
            f"  {count:>6,} could not be used: {records.REASONS[reason]} ({reason})"
            for reason, count in sorted(document["bad"].items())
        ),
        *(f"  {count:>6,} skipped: {what}" for what, count in document["skipped"].items()),
    ]
    if document["retryable"]:
        lines.append(f"again: --retry-failed fetches {document['retryable']:,} of these once more")
    if document["imglab"]:
        lines.append(f"draw:  imglab {document['imglab']} ({document['new']:,} new pictures)")
    elif settings.imglab:
        lines.append(f"draw:  no new picture for {settings.imglab}")
    return "\n".join([*lines, f"out:   {out}", f"next:  nnst scan {out} --model NAME --out SCAN"])
