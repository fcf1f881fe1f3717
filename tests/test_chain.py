"""The chain that `nnst explain` prints, from an address to a score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnst import storage
from nnst.ledger import Ledger
from tests.local_web import NOT_FOUND, LocalWeb, Reply, Request

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def scan(
    nnst: Command, trained: Any, scenes: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A scan of two pictures that were collected, with a trained model; and where from."""
    folder = tmp_path_factory.mktemp("chain")

    def site(request: Request) -> Reply:
        path = scenes.folder / request.path.partition("?")[0].strip("/")
        return Reply(path.read_bytes()) if path.suffix == ".png" else NOT_FOUND

    with LocalWeb(site) as web:
        rows = [
            f"{web.url('/scene3.png')},CC0,somebody",
            f"{web.url('/scene3.png')}?twice,CC BY 4.0,another",
            f"{web.url('/scene9.png')},,",
        ]
        (folder / "urls.csv").write_text("\n".join(["url,license,creator", *rows]) + "\n")
        words = ("--out", folder / "web", "--contact", "me@example.org")
        loopback = (
            *("--set", "safety.networks=127.0.1.0/24", "--set", f"safety.ports=80,{web.port}"),
            *("--set", "pace.rate=0"),
        )
        done = nnst("collect", folder / "urls.csv", *words, *loopback)
        assert done.code == 0, done.err
        address = web.url("/scene3.png")
    done = nnst("scan", folder / "web", "--model", "mark/1", "--out", folder / "scan")
    assert done.code == 0, done.err
    return folder / "scan", address


def test_the_chain_leads_from_the_address_to_the_score(
    nnst: Command, scan: tuple[Path, str], scenes: Any, trained: Any, crop_set: Path
) -> None:
    out, address = scan
    image_id = storage.sha256((scenes.folder / "scene3.png").read_bytes())
    rows = Ledger.open(str(out)).read("images").to_pylist()
    (row,) = (each for each in rows if each["image_id"] == image_id)
    document = nnst("explain", out, row["image"], "--json").document
    assert [each["url"] for each in document["origin"]] == [address, f"{address}?twice"]
    assert [each["licence"] for each in document["origin"]] == ["CC0", "CC BY 4.0"]
    training = document["training"]
    assert training["run_id"] == trained.document["run_id"]
    book = Ledger.open(str(crop_set))
    (crops,) = training["crops"]
    assert (crops["out"], crops["fingerprint"]) == (str(crop_set), book.fingerprint)
    assert crops["truth"] == [str(scenes.truth)]
    pictures = book.read("pictures").to_pylist()
    learnt = [each["image_id"] for each in pictures if each["split"] == "train"]
    assert training["pictures"] == len(learnt)
    assert training["this_picture"] == (image_id in learnt)

    told = nnst("explain", out, row["image"]).out
    links = (
        f"url:      {address}\n",
        "licence:  CC0, somebody\n",
        "licence:  CC BY 4.0, another\n",
        f"sha256:   {image_id}\n",
        "model:    mark/1, ",
        f"taught:   in run {trained.document['run_id']}, by {len(learnt)} annotated pictures",
        f"crops:    {crop_set} (truth ",
        "score:    ",
    )
    places = [told.index(link) for link in links]
    assert places == sorted(places)
    page = Path(document["page"]).read_text()
    assert address in page
    assert str(scenes.truth) in page


def test_a_picture_without_a_licence_says_so_and_one_of_a_folder_has_no_address(
    nnst: Command, scan: tuple[Path, str], rivals: Any, scenes: Any
) -> None:
    image_id = storage.sha256((scenes.folder / "scene9.png").read_bytes())
    (row,) = (
        each
        for each in Ledger.open(str(scan[0])).read("images").to_pylist()
        if each["image_id"] == image_id
    )
    assert "licence:  none was stated\n" in nnst("explain", scan[0], row["image"]).out
    document = nnst("explain", rivals.scans[1], "scene9.png", "--json").document
    assert document["origin"] is None
    assert document["training"]["crops"] == []  # registered by hand, and taught by nothing
    assert document["problems"] == []
