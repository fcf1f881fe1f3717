"""The report: its files and numbers, and its page in a real browser."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nnst import archive, images, records, report, storage
from nnst.errors import InputError
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Receipt
from nnst.report import ReportSettings
from nnst.report.page import inline_json
from workflows.__main__ import dispatch

THRESHOLD = 0.42
RED = (220, 20, 30)

SCRIPT = "<script>alert(1)<!--.png"  # `</script>` would be a folder
CLOSING = "a<b/script><img src=x onerror=alert(2)>.png"
QUOTES = 'it\'s "here", twice.png'
FORMULA = "=HYPERLINK(1).png"
TURNED = "café 写真/turned.jpg"
BROKEN = "broken, alas.png"

Box = tuple[float, float, float, float, float, str]  # x0, y0, x1, y1, score, label

# In pixels as stored. TURNED is 200 x 120 as stored and 120 x 200 upright (orientation 6: its first
# row is the right side), where the box lies at 20, 30, 60, 80.
TURNED_UPRIGHT = (20, 30, 60, 80)
DETECTIONS: Mapping[str, Sequence[Box]] = {
    TURNED: [(30, 60, 80, 100, 0.95, "pare")],
    "plain.png": [(40, 20, 90, 50, 0.9, "pare"), (100, 60, 120, 75, 0.42, "stop")],
    QUOTES: [(10, 10, 60, 40, 0.7, "stop"), (100, 60, 120, 75, 0.2, "pare")],
    FORMULA: [(10, 10, 60, 40, 0.5, "pare")],
    SCRIPT: [(10, 10, 60, 40, 0.3, "pare")],  # below the threshold
    CLOSING: [],
}
ABOVE = {TURNED: 1, "plain.png": 2, QUOTES: 1, FORMULA: 1}


def draw(path: Path, upright_hw: tuple[int, int], boxes: Sequence[Sequence[float]]) -> None:
    """A grey picture file with a red block in each box, the boxes in pixels as stored."""
    pixels = np.full((*upright_hw, 3), 128, np.uint8)
    for x0, y0, x1, y1 in (tuple(map(int, box[:4])) for box in boxes):
        pixels[y0:y1, x0:x1] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if path.name == "turned.jpg":
        exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)


def draw_archive(folder: Path) -> None:
    for image, boxes in DETECTIONS.items():
        draw(folder / image, (120, 200), boxes)
    whole = (folder / "plain.png").read_bytes()
    (folder / BROKEN).write_bytes(whole[: len(whole) // 2])


def rows_of(member: archive.Member, boxes: Sequence[Box]) -> tuple[dict[str, Any], list[Any]]:
    """What a scan writes for one member: its row of `images`, its rows of `detections`."""
    assert member.data is not None
    row = {"image": member.image, "image_id": storage.sha256(member.data)}
    if member.image == BROKEN:
        return {**row, "status": "truncated", "detections": 0}, []
    score = max((box[4] for box in boxes), default=None)
    size = {"width": 200, "height": 120, "status": "ok"}
    names = ("x0", "y0", "x1", "y1", "score", "label")
    found = [{**row, **dict(zip(names, box, strict=True)), "model": "pare/3"} for box in boxes]
    return {**row, **size, "detections": len(boxes), "score": score}, found


def commit_scan(out: Path, source: Path, finished: bool = True) -> Ledger:
    """A finished scan of the drawn archive, in shards of three pictures."""
    model = {"name": "pare", "version": "3", "digest": "0f" * 32, "threshold": THRESHOLD}
    model |= {"labels": ["", "pare", "stop"], "window_hw": [24, 48]}
    notes = {"run_id": "run-of-the-scan", "skipped": {".txt": 2}}
    plan = archive.plan(str(source), shard_images=3)
    ledger = Ledger.create(
        str(out), Job("scan", plan.inputs, {}, model, source=str(source), notes=notes)
    )
    for shard, inputs in ledger.shards().items():
        members = list(archive.stream(str(source), inputs))
        rows = [rows_of(member, DETECTIONS.get(member.image, ())) for member in members]
        boxes = [box for _, found in rows for box in found]
        looked = pa.Table.from_pylist([row for row, _ in rows], records.IMAGES)
        found = pa.Table.from_pylist(boxes, records.DETECTIONS)
        files = tuple(
            write_part(str(out), table, shard, part)
            for table, part in (("images", looked), ("detections", found))
        )
        bad = Counter(row["status"] for row, _ in rows if row["status"] != "ok")
        counts = len(rows), len(rows) - bad.total(), bad.total()
        ledger.commit(Receipt(shard, *counts, files, ledger.fingerprint, dict(bad)))
    if finished:
        ledger.succeed()
    return ledger


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A scan with its report, which no test changes."""
    folder = tmp_path_factory.mktemp("report")
    draw_archive(folder / "logos & signs")
    ledger = commit_scan(folder / "scan", folder / "logos & signs")
    report.write(ledger)
    return ledger


@pytest.fixture
def own_scan(tmp_path: Path) -> Ledger:
    """A scan without a report, to be changed."""
    draw_archive(tmp_path / "pictures")
    return commit_scan(tmp_path / "scan", tmp_path / "pictures")


class Elements(HTMLParser):
    """The elements of a page as a browser would find them, and its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.found[-1] if self.found else ("", {})
        name = attributes.get("id") or tag
        self.text[name] = self.text.get(name, "") + data


def page_of(ledger: Ledger) -> str:
    return Path(ledger.out, "report", "index.html").read_text(encoding="utf-8")


def data_of(ledger: Ledger) -> dict[str, Any]:
    return json.loads(Elements(page_of(ledger)).text["data"])


def table_of(ledger: Ledger) -> list[dict[str, str]]:
    text = Path(ledger.out, "report", "detections.csv").read_bytes().decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


# Files and numbers


def test_the_counts_are_those_of_the_scan_at_the_models_threshold(own_scan: Ledger) -> None:
    """A score that equals the threshold reaches it, although one is float32 and one is not."""
    assert report.write(own_scan).counts == {
        "pictures": 7,
        "looked_at": 6,
        "found": 4,
        "nothing_found": 2,
        "could_not_look": 1,
        "detections": 5,
        "thumbnails": 6,
    }


def test_the_page_asks_for_nothing_outside_itself(scan: Ledger) -> None:
    page = page_of(scan)
    elements = Elements(page).found
    links = [names[key] for _, names in elements for key in ("src", "href") if key in names]
    assert sorted(map(str, links)) == ["data:,", "detections.csv"]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    policy = next(names["content"] for _, names in elements if "http-equiv" in names)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_names_of_files_cannot_leave_the_data(scan: Ledger) -> None:
    """Names with tags, quotes and comments come back as they were, and add no element."""
    elements = Elements(page_of(scan))
    tags = Counter(tag for tag, _ in elements.found)
    assert (tags["script"], tags["img"], tags["style"]) == (6, 0, 1)
    assert {row["image"] for row in data_of(scan)["pictures"]} == {*DETECTIONS, BROKEN}


@given(st.dictionaries(st.text(), st.text() | st.sampled_from(["</script>", "<!--", "]]>"])))
@settings(max_examples=100, deadline=None)
def test_inlined_json_is_the_document_without_any_markup(document: dict[str, str]) -> None:
    text = inline_json(document)
    assert json.loads(text) == document
    assert not set("<>&\u2028\u2029") & set(text)


def test_the_same_scan_gives_the_same_bytes(own_scan: Ledger) -> None:
    written = report.write(own_scan)
    first = [Path(path).read_bytes() for path in (written.index, written.csv)]
    report.write(Ledger.open(own_scan.out, "scan"))
    assert [Path(path).read_bytes() for path in (written.index, written.csv)] == first


def test_the_csv_holds_every_detection(scan: Ledger) -> None:
    rows = table_of(scan)
    assert list(rows[0]) == [*records.DETECTIONS.names, "above_threshold"]
    assert Counter(row["image"].removeprefix("'") for row in rows) == {
        image: len(boxes) for image, boxes in DETECTIONS.items() if boxes
    }
    above = Counter(r["image"].removeprefix("'") for r in rows if r["above_threshold"] == "true")
    assert above == ABOVE
    turned = next(row for row in rows if row["image"] == TURNED)
    assert [turned[name] for name in ("x0", "y1", "score")] == ["30.0", "100.0", "0.95"]


def test_a_name_that_looks_like_a_formula_is_text_in_a_spreadsheet(scan: Ledger) -> None:
    names = {row["image"] for row in table_of(scan)}
    assert "'" + FORMULA in names
    assert not [name for name in names if name[0] in "=+-@\t\r\n"]


def test_boxes_are_those_of_the_upright_picture(scan: Ledger) -> None:
    (turned,) = (row for row in data_of(scan)["pictures"] if row["image"] == TURNED)
    assert (turned["width"], turned["height"]) == (120, 200)
    assert turned["boxes"] == [[*TURNED_UPRIGHT, 0.95, "pare"]]


def test_budgets_cut_the_list_and_the_thumbnails_and_no_count(own_scan: Ledger) -> None:
    cut = ReportSettings(thumbnails=1, listed=2, boxes=1, closeups=0)
    counts = report.write(own_scan, cut).counts
    data = data_of(own_scan)
    assert (counts["pictures"], counts["found"], counts["thumbnails"]) == (7, 4, 1)
    assert [row["image"] for row in data["pictures"]] == [TURNED, "plain.png", BROKEN]
    assert [len(row["boxes"]) for row in data["pictures"]] == [1, 1, 0]
    assert data["pictures"][1]["detections"] == 2
    assert [bool(row["thumbnail"]) for row in data["pictures"]] == [True, False, False]
    assert data["notes"] == ["Counted, and not listed on this page: 4 more pictures looked at."]
    assert len(table_of(own_scan)) == 7


def test_a_large_picture_becomes_a_small_thumbnail(own_scan: Ledger) -> None:
    """The best is larger than the rest; closeups keep the shape of what they show."""
    small = ReportSettings(thumbnail_side=50, large=1, large_side=100, closeup_side=20)
    report.write(own_scan, small)
    turned, plain = data_of(own_scan)["pictures"][:2]
    assert [size_of(turned["thumbnail"]), size_of(plain["thumbnail"])] == [(60, 100), (50, 30)]
    assert [max(size_of(text)) for text in plain["closeups"]] == [20, 20]


def size_of(text: str) -> tuple[int, int]:
    """Width and height of a JPEG in base64."""
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True))).size


def test_without_the_archive_the_report_has_all_but_thumbnails(own_scan: Ledger) -> None:
    Path(own_scan.source).rename(own_scan.source + " moved")
    counts = report.write(own_scan).counts
    assert (counts["found"], counts["thumbnails"]) == (4, 0)
    assert data_of(own_scan)["notes"] == [
        f"The archive {own_scan.source} is gone, so there are no thumbnails."
    ]


def test_a_picture_changed_since_the_scan_gets_no_thumbnail(own_scan: Ledger) -> None:
    """Its boxes are those of other pixels. The same holds for one that is gone."""
    path = Path(own_scan.source, "plain.png")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the same size
    path.write_bytes(data)
    Path(own_scan.source, FORMULA).unlink()
    assert report.write(own_scan).counts["thumbnails"] == 4
    data_now = data_of(own_scan)
    assert data_now["notes"] == [
        "Without a thumbnail, as gone or changed since the scan: 2 pictures."
    ]
    bare = {row["image"] for row in data_now["pictures"] if not row["thumbnail"]}
    assert bare == {"plain.png", FORMULA, BROKEN}


def test_an_unfinished_scan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    draw_archive(tmp_path / "pictures")
    ledger = commit_scan(tmp_path / "scan", tmp_path / "pictures", finished=False)
    with pytest.raises(InputError, match="is not finished"):
        report.write(ledger)
    assert not Path(ledger.out, "report").exists()


def test_evaluations_of_the_scan_are_on_the_page(own_scan: Ledger) -> None:
    figures = {"value": 0.871, "low": 0.78, "high": None}
    document = {"truth": "a/b.xml", "pictures": 6, "map50": figures, "labels": []}
    storage.put(
        storage.join(own_scan.out, "evaluation", "0123456789ab.json"), storage.to_json(document)
    )
    report.write(own_scan)
    assert data_of(own_scan)["evaluations"] == [
        {"truth": "a/b.xml", "pictures": 6, "map50": figures}
    ]


def test_the_tally_counts_what_reaches_each_threshold(scan: Ledger) -> None:
    tally = data_of(scan)["tally"]
    scores = [[np.float32(box[4]) for box in boxes] for boxes in DETECTIONS.values()]
    for index, threshold in enumerate(map(np.float32, tally["thresholds"])):
        reaching = [[score for score in found if score >= threshold] for found in scores]
        assert tally["pictures"][index] == sum(map(bool, reaching))
        assert tally["detections"][index] == sum(map(len, reaching))


def test_a_threshold_between_the_steps_is_a_step_of_its_own(tmp_path: Path) -> None:
    draw_archive(tmp_path / "pictures")
    ledger = commit_scan(tmp_path / "scan", tmp_path / "pictures")
    ledger.plan["identity"]["model"]["threshold"] = 0.4237
    assert report.write(ledger).counts["detections"] == 4
    assert 0.4237 in data_of(ledger)["tally"]["thresholds"]


@pytest.mark.parametrize("name", ["thumbnail_side", "closeup_side", "listed", "boxes", "quality"])
def test_a_budget_below_its_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="report"):
        dataclasses.replace(report.DEFAULTS, **{name: -1})


# The page in a browser


@pytest.fixture
def visit(open_file: Callable[[Path], Any]) -> Callable[[Ledger], Any]:
    """Opens a report from its file."""
    return lambda ledger: open_file(Path(ledger.out, "report", "index.html"))


def shown(page: Any) -> list[str]:
    """The pictures of the grid, in order."""
    return page.eval_on_selector_all("#grid .name", "names => names.map(name => name.title)")


def count_of(page: Any, kind: str) -> str:
    return page.text_content(f"#count-{kind}")


def selected(page: Any) -> str | None:
    """The picture whose card has the focus."""
    return page.evaluate("document.activeElement.querySelector('.name')?.title ?? null")


def card(page: Any, image: str) -> Any:
    names = shown(page)
    return page.locator("#grid .card").nth(names.index(image))


def relative_box(page: Any, image: str) -> list[float]:
    """The first drawn box of a card, in pixels of the upright picture, from where it is drawn."""
    return card(page, image).evaluate(
        """card => {
          const img = card.querySelector('.stage img').getBoundingClientRect();
          const box = [...card.querySelectorAll('.outline')].pop().getBoundingClientRect();
          const {left, top, width} = img;
          return [box.left - left, box.top - top, box.right - left, box.bottom - top]
            .map(value => value / width);
        }"""
    )


@pytest.mark.parametrize(
    ("image", "box", "width"),
    [("plain.png", (40, 20, 90, 50), 200), (TURNED, TURNED_UPRIGHT, 120)],
)
def test_a_box_is_drawn_where_the_object_is(
    scan: Ledger, visit: Any, image: str, box: tuple[int, ...], width: int
) -> None:
    drawn = np.array(relative_box(visit(scan), image)) * width
    np.testing.assert_allclose(drawn, box, atol=0.5)


def test_the_thumbnail_is_upright_under_its_box(scan: Ledger, visit: Any) -> None:
    """The pixels of the turned picture: red in the middle of its box, grey where it was stored."""
    colours = card(visit(scan), TURNED).evaluate(
        """async card => {
          const img = card.querySelector('.stage img');
          await img.decode();
          const canvas = new OffscreenCanvas(img.naturalWidth, img.naturalHeight);
          const pen = canvas.getContext('2d', {willReadFrequently: true});
          pen.drawImage(img, 0, 0);
          return [[40, 55], [100, 55]].map(([x, y]) => [...pen.getImageData(x, y, 1, 1).data]);
        }"""
    )
    np.testing.assert_allclose(colours[0][:3], RED, atol=12)
    np.testing.assert_allclose(colours[1][:3], (128, 128, 128), atol=12)


def test_the_page_opens_on_what_was_found_best_first(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    assert shown(page) == [TURNED, "plain.png", QUOTES, FORMULA]
    assert [count_of(page, kind) for kind in ("found", "nothing", "bad", "all")] == list("4217")
    assert page.title() == "logos & signs seen by pare/3"
    assert "run-of-the-scan" in page.text_content("footer")
    assert page.locator(".card .stage img").first.get_attribute("alt") == f"Picture {TURNED}"
    assert card(page, TURNED).get_attribute("aria-label") == (
        f"{TURNED}, 1 detection, best score 0.95"
    )


def test_the_threshold_hides_boxes_and_pictures_and_counts_at_once(
    scan: Ledger, visit: Any
) -> None:
    page = visit(scan)
    slide_to(page, 0.6)
    assert shown(page) == [TURNED, "plain.png", QUOTES]
    assert card(page, "plain.png").locator(".outline").count() == 1
    assert [count_of(page, kind) for kind in ("found", "nothing")] == ["3", "3"]
    assert page.text_content("#more-found") == "3 detections"
    slide_to(page, 0.25)
    assert len(shown(page)) == 5
    page.keyboard.press("m")
    assert page.text_content("#threshold-value") == "0.42"
    assert shown(page) == [TURNED, "plain.png", QUOTES, FORMULA]


def slide_to(page: Any, threshold: float) -> None:
    page.evaluate(
        """threshold => {
          const slider = document.getElementById('threshold');
          slider.value = data.tally.thresholds.indexOf(threshold);
          slider.dispatchEvent(new Event('input'));
        }""",
        threshold,
    )


def test_brackets_move_the_threshold_by_a_step(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    page.keyboard.press("]")
    assert page.text_content("#threshold-value") == "0.43"
    assert page.text_content("#more-found") == "4 detections"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.text_content("#threshold-value") == "0.41"


def test_a_picture_that_could_not_be_looked_at_says_why(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    page.keyboard.press("3")
    assert shown(page) == [BROKEN]
    assert records.REASONS["truncated"] in card(page, BROKEN).inner_text()
    assert "1 truncated" in page.inner_text("#kinds")


def test_hostile_names_are_shown_as_they_are(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    page.get_by_label("All pictures").check(force=True)
    assert set(shown(page)) == {*DETECTIONS, BROKEN}
    for image in (SCRIPT, QUOTES):
        assert card(page, image).locator(".file").inner_text() == image
    assert page.locator("#grid img:not([src^='data:image/jpeg;base64,'])").count() == 0


def test_the_filter_finds_all_its_words_in_the_name(scan: Ledger, visit: Any) -> None:
    """Accents match however they are composed."""
    page = visit(scan)
    page.keyboard.press("/")
    page.keyboard.type("cafe\u0301 TURN")
    assert shown(page) == [TURNED]
    assert page.text_content("#shown") == "1 picture found"
    page.fill("#filter", "no such name")
    assert shown(page) == []
    assert "No picture" in page.text_content("#shown")


def test_a_label_narrows_boxes_and_pictures(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    page.select_option("#label", "stop")
    assert shown(page) == [QUOTES, "plain.png"]
    assert card(page, "plain.png").locator(".outline").count() == 1


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("name", [FORMULA, TURNED, QUOTES, "plain.png"]),
        ("count", ["plain.png", TURNED, QUOTES, FORMULA]),
        ("size", [TURNED, "plain.png", QUOTES, FORMULA]),
    ],
)
def test_pictures_come_in_the_order_asked_for(
    scan: Ledger, visit: Any, order: str, names: list[str]
) -> None:
    page = visit(scan)
    page.select_option("#sort", order)
    assert shown(page) == names


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"width-least": "45"}, ["plain.png", QUOTES, FORMULA]),
        ({"width-most": "45"}, [TURNED, "plain.png"]),
        ({"width-least": "30", "width-most": "45"}, [TURNED]),
        ({"score-most": "0.9"}, ["plain.png", QUOTES, FORMULA]),
        ({"score-most": "0.6", "width-least": "45"}, [FORMULA]),
    ],
    ids=str,
)
def test_width_and_score_narrow_boxes_and_pictures(
    scan: Ledger, visit: Any, fields: dict[str, str], names: list[str]
) -> None:
    page = visit(scan)
    page.keyboard.press("f")
    for field, value in fields.items():
        page.fill(f"#{field}", value)
    assert shown(page) == names
    assert page.text_content("#show-more") == f"Filters ({len({f[:5] for f in fields})})"
    page.click("#clear")
    assert shown(page) == [TURNED, "plain.png", QUOTES, FORMULA]


def test_a_place_is_a_ninth_of_the_upright_picture(scan: Ledger, visit: Any) -> None:
    """TURNED's box has its middle at 40, 55 of 120 x 200: just right of the upper left ninth."""
    page = visit(scan)
    page.keyboard.press("f")
    for place in range(9):
        page.set_checked(f"#place-{place}", place == 1)
    assert shown(page) == [TURNED]
    page.set_checked("#place-1", False)
    page.set_checked("#place-4", True)
    assert shown(page) == ["plain.png"]
    assert card(page, "plain.png").locator(".outline").count() == 1


@pytest.mark.parametrize("form", ["imglab", "coco", "csv"])
def test_an_export_of_the_page_is_what_nnst_export_writes(
    own_scan: Ledger, visit: Any, form: str
) -> None:
    """Byte for byte, hostile names and a turned picture among them."""
    report.write(own_scan)
    out = Path(own_scan.source, f"exported.{form}")
    words = {"scan": own_scan.out, "to": form, "out": str(out), "threshold": 0.2}
    dispatch("export", words)
    page = visit(own_scan)
    slide_to(page, 0.2)
    page.keyboard.press("e")
    assert "7 detections in 5 pictures" in page.text_content("#export-count")
    with page.expect_download() as found:
        page.click(f"#export-{form}")
    assert Path(found.value.path()).read_bytes() == out.read_bytes()
    assert "is in your downloads" in page.text_content("#export-told")


def test_an_export_of_the_page_holds_what_the_filters_show(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    page.select_option("#label", "stop")
    page.keyboard.press("e")
    assert not page.is_visible("#export-cut")  # the page has all that there is
    with page.expect_download() as found:
        page.click("#export-coco")
    document = json.loads(Path(found.value.path()).read_bytes())
    assert [each["file_name"] for each in document["images"]] == ["plain.png", QUOTES]
    boxes = [each["bbox"] for each in document["annotations"]]
    assert boxes == [[100, 60, 20, 15], [10, 10, 50, 30]]
    assert {each["category_id"] for each in document["annotations"]} == {2}


def test_an_export_of_a_cut_page_says_what_writes_all(own_scan: Ledger, visit: Any) -> None:
    report.write(own_scan, ReportSettings(listed=2))
    page = visit(own_scan)
    page.keyboard.press("e")
    assert page.is_visible("#export-cut")
    command = page.text_content("#export-command")
    assert command == f"nnst export {own_scan.out} --threshold 0.42 --to coco --out found.json"


@pytest.fixture
def two_scans(own_scan: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A scan with the report of another one beside, which found other things in two pictures."""
    other = dict(DETECTIONS) | {"plain.png": [], CLOSING: [(20, 20, 70, 60, 0.8, "pare")]}
    monkeypatch.setitem(globals(), "DETECTIONS", other)
    beside = commit_scan(tmp_path / "other", tmp_path / "pictures")
    red = images.encode_png(np.full((6, 10, 3), RED, np.uint8))
    report.write(own_scan, ReportSettings(heat=1), beside, lambda data: red)
    return own_scan


def test_two_scans_are_seen_side_by_side(two_scans: Ledger, visit: Any) -> None:
    page = visit(two_scans)
    assert "pare/3" in page.text_content("#origin")
    page.keyboard.press("f")
    for choice, names in (
        ("both", [TURNED, QUOTES, FORMULA]),
        ("a", ["plain.png"]),
        ("b", [CLOSING]),
    ):
        page.select_option("#compare", choice)
        assert shown(page) == names
    assert page.text_content("#shown") == "1 picture found by B only"
    frames = card(page, CLOSING).locator(".frame")
    assert [frames.nth(index).locator(".outline").count() for index in (0, 1)] == [0, 1]
    page.select_option("#compare", "both")
    drawn = card(page, TURNED).locator(".frame").nth(1).evaluate(
        """frame => {
          const img = frame.querySelector('.stage img').getBoundingClientRect();
          const box = frame.querySelector('.outline').getBoundingClientRect();
          return [(box.left - img.left) / img.width, (box.bottom - img.top) / img.height];
        }"""
    )  # fmt: skip
    np.testing.assert_allclose(drawn, [20 / 120, 80 / 200], atol=0.01)


def test_the_heat_map_is_shown_on_demand_and_is_the_first_scans(
    two_scans: Ledger, visit: Any
) -> None:
    page = visit(two_scans)
    heat = page.locator(".heat")
    assert (heat.count(), heat.first.is_visible()) == (1, False)
    page.keyboard.press("h")
    assert heat.first.is_visible()
    assert page.get_attribute("#show-heat", "aria-pressed") == "true"


def test_a_scan_of_other_pictures_cannot_stand_beside(own_scan: Ledger, tmp_path: Path) -> None:
    draw(tmp_path / "others" / "a.png", (90, 90), [])
    other = commit_scan(tmp_path / "other", tmp_path / "others")
    with pytest.raises(InputError, match="has no picture of the scan"):
        report.write(own_scan, report.DEFAULTS, other)


def test_the_keyboard_alone_leads_through_the_pictures(scan: Ledger, visit: Any) -> None:
    page = visit(scan)
    seen = []
    for key in ("j", "j", "ArrowRight", "k", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(selected(page))
    assert seen == [TURNED, "plain.png", QUOTES, "plain.png", TURNED]
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.is_visible("#large")
    assert page.text_content("#large-name") == "plain.png"
    assert page.locator("#large .outline").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.text_content("#large-place") == "3 of 4"
    assert "below the threshold" in page.inner_text("#large aside")
    page.keyboard.press("Escape")
    assert not page.is_visible("#large")
    # The browser tells of a closed dialog a moment after it has closed it.
    page.wait_for_function(
        "name => document.activeElement.querySelector('.name')?.title === name", arg=QUOTES
    )
    assert selected(page) == QUOTES
    page.keyboard.press("?")
    assert page.is_visible("#keys")


def test_pages_keep_a_long_list_quick(tmp_path: Path, visit: Any) -> None:
    """Of 130 pictures without thumbnails 60 are in the document; the selection turns the page."""
    names = [f"{number:03}.png" for number in range(130)]
    source = tmp_path / "pictures"
    source.mkdir()
    draw(source / names[0], (120, 200), [])
    for name in names[1:]:
        (source / name).hardlink_to(source / names[0])
    ledger = commit_scan(tmp_path / "scan", source)
    report.write(ledger, ReportSettings(thumbnails=0))
    page = visit(ledger)
    assert shown(page) == names[:60]
    assert page.text_content("#shown") == "1 to 60 of 130 pictures"
    page.click("#page-on")
    assert shown(page) == names[60:120]
    card(page, names[119]).focus()
    page.keyboard.press("j")
    assert (selected(page), shown(page)) == (names[120], names[120:])
    assert page.is_disabled("#page-on")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scan: Ledger, visit: Any, scheme: str) -> None:
    """At least 4.5 to 1, what WCAG 2.2 asks for (1.4.3), quiet text and warnings included."""
    page = visit(scan)
    page.emulate_media(color_scheme=scheme)
    pairs = [("text", "ground"), ("quiet", "ground"), ("quiet", "card"), ("accent", "card")]
    pairs += [("warn", "warn-ground"), ("warn", "card"), ("quiet", "frame")]
    for front, back in pairs:
        lights = [luminance(variable(page, name)) for name in (front, back)]
        assert (max(lights) + 0.05) / (min(lights) + 0.05) >= 4.5, (front, back)


def variable(page: Any, name: str) -> str:
    script = "name => getComputedStyle(document.documentElement).getPropertyValue(name)"
    return page.evaluate(script, f"--{name}").strip()


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
