"""`nnst label`: its server asked directly, and its page as a person uses it in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlib
import numpy as np
import pytest

from nnst import imglab
from nnst.errors import InputError
from nnst.imglab import Box, Dataset, Image, Part
from workflows import serving
from workflows.commands import Options
from workflows.label import LabelConfig, run

HOSTILE = "<img src=x onerror=alert(1)>&'.png"
PLAIN, TURNED = "plain.png", "turned.jpg"


@pytest.fixture
def pictures(
    tmp_path: Path, draw: Callable[..., np.ndarray], with_orientation: Callable[..., bytes]
) -> Path:
    """Pictures of 220 x 160: one with a name that is markup, one that EXIF turns by a quarter."""
    from nnst import images

    folder = tmp_path / "pictures"
    folder.mkdir()
    png = images.encode_png(draw([(20, 30, 60, 54)]))
    for name in (HOSTILE, PLAIN, "sub.png"):
        (folder / name).write_bytes(png)
    turned = with_orientation(images.encode_jpeg(draw([])), 6)
    (folder / TURNED).write_bytes(turned)
    (folder / "no-picture.png").write_bytes(b"GIF89a but not really")
    return folder


# --- The server, asked directly


def asked(url: str, path: str = "", method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer; nothing is followed, resolved or added."""
    parts = urlsplit(url)
    body = headers.pop("body", None)
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    ) as connection:
        connection.putrequest(method, parts.path + path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body.encode())))
        connection.endheaders(body.encode() if body is not None else None)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def put(url: str, **entry: Any) -> tuple[int, Any]:
    status, data, _ = asked(url, "entry", "PUT", body=json.dumps(entry))
    return status, json.loads(data)


def test_only_the_page_itself_is_answered(pictures: Path, serve: Callable[..., Any]) -> None:
    served = serve("label", pictures)
    url, port = served.url, urlsplit(served.url).port
    status, _, headers = asked(url)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert asked(url, "state", Host=f"localhost:{port}")[0] == 200
    for name, value in {
        "Host": "evil.example",  # a name rebound to 127.0.0.1
        "Origin": "http://evil.example",
        "Sec_Fetch_Site": "cross-site",
    }.items():
        assert asked(url, "state", **{name: value})[0] == 403, name
    other = f"http://127.0.0.1:{port + 1}"  # another page of this machine
    assert asked(url, "state", Origin=other, Host=f"127.0.0.1:{port}")[0] == 403
    root = f"http://127.0.0.1:{port}/"
    for path in ("", "state", "0" * 32 + "/state"):  # without the key
        assert asked(root, path)[0] == 403, path


def test_only_pictures_of_the_archive_are_served(pictures: Path, serve: Callable[..., Any]) -> None:
    (pictures / "secret.txt").write_text("secret")
    url = serve("label", pictures).url
    state = json.loads(asked(url, "state")[1])
    names = sorted([HOSTILE, PLAIN, TURNED, "no-picture.png", "sub.png"])
    assert sorted(state["files"]) == names
    assert asked(url, "pictures/0/view.jpg")[1][:2] == b"\xff\xd8"
    for path in (
        "pictures/5/view.jpg",
        "pictures/-1/view.jpg",
        "static/../label.py",
        "static/%2e%2e/label.py",
        "pictures/0/..%2f..%2fsecret.txt",
        "secret.txt",
    ):
        assert asked(url, path)[0] in (403, 404), path
    bad = state["files"].index("no-picture.png")
    assert asked(url, f"pictures/{bad}/view.jpg")[0] == 422
    entry = {"base": "none", "listed": True, "boxes": []}
    for name in ("../other.png", "secret.txt", "/etc/hostname"):
        assert put(url, file=name, **entry)[0] == 400
    assert not (pictures / "truth.xml").exists()


def test_an_xml_that_names_files_outside_its_folder_shows_none_of_them(
    tmp_path: Path, serve: Callable[..., Any]
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    names = ("link.png", "../secret.png", str(tmp_path / "secret.png"))
    imglab.write(Dataset(tuple(map(Image, names))), folder / "truth.xml")
    url = serve("label", folder / "truth.xml").url
    for index in range(len(names)):
        status, body, _ = asked(url, f"pictures/{index}/view.jpg")
        assert (status, json.loads(body)["reason"]) == (422, "unsafe_path")


def test_a_box_of_a_turned_picture_is_stored_as_imglab_draws(
    pictures: Path, serve: Callable[..., Any]
) -> None:
    """Orientation 6: the first row of 220 stored pixels is the right side of the upright picture,
    which is 160 wide. All that a box has beside its sides stays."""
    rich = Box(10, 20, 50, 30, "logo", angle=0.5, gender="male", parts=(Part("eye", 3, 4),))
    imglab.write(Dataset((Image(TURNED, (rich,)),)), pictures / "truth.xml")
    url = serve("label", pictures / "truth.xml").url
    entry = json.loads(asked(url, "pictures/0")[1])
    assert (entry["width"], entry["height"]) == (160, 220)
    (box,) = entry["boxes"]
    assert [box[side] for side in ("left", "top", "width", "height")] == [110, 10, 30, 50]
    moved = box | {"left": 100, "ignore": True}
    status, told = put(url, file=TURNED, base=entry["version"], listed=True, boxes=[moved])
    assert (status, told["boxes"]) == (200, [moved])
    (stored,) = imglab.read(pictures / "truth.xml").images[0].boxes
    expected = Box(10, 30, 50, 30, "logo", True, angle=0.5, gender="male", parts=rich.parts)
    assert stored == expected


def test_a_request_that_no_page_sends_changes_nothing(
    pictures: Path, serve: Callable[..., Any]
) -> None:
    url = serve("label", pictures).url
    good = {"left": 1, "top": 2, "width": 3, "height": 4, "label": "logo"}
    for box in (
        {},
        good | {"width": 0},
        good | {"left": "x"},
        good | {"label": "\0"},
        good | {"left": 1e300},
    ):
        assert put(url, file=PLAIN, base="none", listed=True, boxes=[box])[0] == 400
    assert asked(url, "entry", "PUT", body="{")[0] == 400
    assert not (pictures / "truth.xml").exists()


def test_ctrl_c_loses_no_change_that_was_answered(
    pictures: Path, serve: Callable[..., Any]
) -> None:
    """It comes while changes are on their way; those are answered, or were never taken."""
    served = serve("label", pictures)
    box = {"left": 1, "top": 2, "width": 3, "height": 4, "label": "logo"}
    answered: list[int] = []

    def draw() -> None:
        base = "none"
        with contextlib.suppress(OSError, http.client.HTTPException):
            for count in range(1, 200):
                status, entry = put(
                    served.url, file=PLAIN, base=base, listed=True, boxes=[box] * count
                )
                assert status == 200
                answered.append(count)
                base = entry["version"]

    drawing = threading.Thread(target=draw)
    drawing.start()
    while len(answered) < 3:
        drawing.join(0.01)
    served.end()
    drawing.join()
    assert served.process.returncode == 0
    (image,) = imglab.read(pictures / "truth.xml").images
    assert len(image.boxes) - answered[-1] in (0, 1)


def test_an_address_is_the_same_for_the_same_work_and_person_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "anna"))
    key = serving.key_of("label a.xml")
    assert serving.key_of("label a.xml") == key
    assert serving.key_of("label b.xml") != key
    (kept,) = (tmp_path / "anna").rglob("page-key")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "bert"))
    assert serving.key_of("label a.xml") != key
    monkeypatch.setenv("XDG_STATE_HOME", str(kept))  # a file: nothing can be kept there
    assert serving.key_of("label a.xml") != serving.key_of("label a.xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pictures": "{folder}/none.xml"}, "there is no file"),
        ({"pictures": "{folder}", "out": "{folder}/sub/truth.xml"}, "does not lie in or above"),
        ({"pictures": "s3://bucket/photos"}, "not on this machine"),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    pictures: Path, words: dict[str, str], message: str
) -> None:
    given = {name: value.format(folder=pictures) for name, value in words.items()}
    with pytest.raises(InputError, match=message):
        run(LabelConfig(**given), Options())


# --- The page


@pytest.fixture
def visit(open_page: Callable[..., Any]) -> Callable[[str], Any]:
    """Opens the page."""
    return partial(open_page, ready="#picture.ready, #message:not(:empty)")


def go(page: Any, name: str) -> None:
    """Open a picture as a person does: g, its name, Enter."""
    page.keyboard.press("g")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "name => document.getElementById('file').textContent === name"
        " && document.querySelector('#picture.ready')",
        arg=name,
    )


def on_stage(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the picture is in the window."""
    image = page.locator("#picture").bounding_box()
    width = page.evaluate("parseFloat(document.getElementById('picture').style.width)")
    scale = image["width"] / width
    return image["x"] + x * scale, image["y"] + y * scale


def drag(page: Any, start: tuple[int, int], end: tuple[int, int], drop: bool = True) -> None:
    page.mouse.move(*on_stage(page, *start))
    page.mouse.down()
    page.mouse.move(*on_stage(page, *end), steps=4)
    if drop:
        page.mouse.up()


def wait_saved(page: Any) -> None:
    page.wait_for_function(
        "() => document.getElementById('saved').dataset.state === 'saved'"
        " && !Object.keys(localStorage).length"
    )


def wait_state(page: Any, state: str) -> None:
    page.wait_for_function(
        "state => document.getElementById('saved').dataset.state === state", arg=state
    )


def boxes_of(path: Path, name: str) -> list[tuple[int, int, int, int, str]]:
    """What dlib's own reader finds."""
    dataset = dlib.image_dataset_metadata.load_image_dataset_metadata(str(path))
    (found,) = (image for image in dataset.images if image.filename == name)
    return [
        (each.rect.left(), each.rect.top(), each.rect.width(), each.rect.height(), each.label)
        for each in found.boxes
    ]


def test_a_box_drawn_moved_and_resized_is_what_dlib_reads(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    page, truth = visit(serve("label", pictures).url), pictures / "truth.xml"
    go(page, PLAIN)
    drag(page, (20, 30), (60, 54))
    page.keyboard.press("Tab")
    page.keyboard.type("acme")
    page.keyboard.press("Enter")
    wait_saved(page)
    assert boxes_of(truth, PLAIN) == [(20, 30, 40, 24, "acme")]
    drag(page, (40, 42), (50, 52))
    drag(page, (70, 64), (90, 74))
    wait_saved(page)
    assert boxes_of(truth, PLAIN) == [(30, 40, 60, 34, "acme")]
    for key in ("i", "o", "Control+z", "l", "J"):
        page.keyboard.press(key)
    wait_saved(page)
    assert boxes_of(truth, PLAIN) == [(31, 40, 60, 35, "acme")]
    (box,) = imglab.read(truth).images[0].boxes
    assert (box.ignore, box.occluded) == (True, False)
    page.keyboard.press("Delete")
    wait_saved(page)
    assert imglab.read(truth).images == ()  # nobody has said that nothing is there
    page.keyboard.press("Control+z")
    page.keyboard.press("r")  # the shape of that box, for the next
    drag(page, (100, 100), (160, 150))
    wait_saved(page)
    assert [box[2:4] for box in boxes_of(truth, PLAIN)] == [(60, 35), (86, 50)]


def test_pictures_are_labelled_with_the_keyboard_alone(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    served = serve("label", pictures, "--set", "labels=acme,other")
    page = visit(served.url)
    go(page, PLAIN)
    for key in ("2", "n", "Shift+ArrowLeft", "h", "n", "1", "u"):
        page.keyboard.press(key)
    wait_saved(page)
    found = boxes_of(pictures / "truth.xml", PLAIN)
    assert [box[4] for box in found] == ["other", "acme"]
    assert found[1][0] - found[0][0] == 11
    go(page, "sub.png")
    page.keyboard.press("0")
    wait_saved(page)
    page.wait_for_function("() => document.getElementById('file').textContent !== 'sub.png'")
    assert boxes_of(pictures / "truth.xml", "sub.png") == []
    assert served.end() == (
        f"2 boxes on 2 of 5 pictures\ntruth: {pictures}/truth.xml\n"
        f"next:  nnst crop {pictures}/truth.xml --out CROPS\n"
    )
    assert served.process.returncode == 0


def test_a_name_that_is_markup_is_shown_as_text(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    label = "<b onmouseover=alert(2)>"
    imglab.write(Dataset((Image(HOSTILE, (Box(5, 5, 50, 50, label),)),)), pictures / "truth.xml")
    page = visit(serve("label", pictures).url)
    go(page, HOSTILE)
    assert page.locator("#labels bdi").first.text_content() == label
    assert page.locator("#here-list bdi").text_content() == label
    assert page.locator("#boxes text").text_content() == label
    assert page.locator("b, img[onerror]").count() == 0


def test_a_server_that_dies_in_the_middle_of_a_drag_costs_no_box(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    """The first box is on the disk at the kill, the second is drawn while no server is there."""
    first = serve("label", pictures)
    page, truth = visit(first.url), pictures / "truth.xml"
    go(page, PLAIN)
    drag(page, (100, 100), (150, 140))
    wait_saved(page)
    drag(page, (20, 30), (40, 44), drop=False)
    first.end(signal.SIGKILL)
    assert len(boxes_of(truth, PLAIN)) == 1
    page.mouse.move(*on_stage(page, 60, 54))
    page.mouse.up()
    wait_state(page, "away")
    page.keyboard.press("i")
    second = serve("label", pictures, port=urlsplit(first.url).port)
    assert second.url == first.url
    wait_saved(page)
    assert [box[:4] for box in boxes_of(truth, PLAIN)] == [(100, 100, 50, 40), (20, 30, 40, 24)]
    assert imglab.read(truth).images[0].boxes[1].ignore


def test_a_page_that_dies_with_its_server_sends_what_it_kept_when_both_are_back(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    first = serve("label", pictures)
    page = visit(first.url)
    go(page, PLAIN)
    first.end(signal.SIGKILL)
    drag(page, (20, 30), (60, 54))
    wait_state(page, "away")
    page.close()
    serve("label", pictures, port=urlsplit(first.url).port)
    wait_saved(visit(first.url))
    assert [box[:4] for box in boxes_of(pictures / "truth.xml", PLAIN)] == [(20, 30, 40, 24)]


def test_a_second_writer_is_told_and_never_overwritten(
    pictures: Path, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    """It is written as imglab does, into the file: first beside, then below our own hands."""
    page, truth = visit(serve("label", pictures).url), pictures / "truth.xml"
    go(page, PLAIN)
    drag(page, (20, 30), (60, 54))
    wait_saved(page)
    (mine,) = imglab.read(truth).images
    theirs = Image("sub.png", (Box(1, 2, 30, 40, "theirs"),))
    truth.write_bytes(imglab.document.encode(Dataset((mine, theirs))))
    drag(page, (100, 100), (150, 140))
    wait_saved(page)
    assert [len(image.boxes) for image in imglab.read(truth).images] == [2, 1]
    changed = Image(PLAIN, (Box(7, 7, 70, 70, "theirs"),), 220, 160)
    written = imglab.document.encode(Dataset((changed, theirs)))
    with page.expect_response("**/pulse"):  # the next one is three seconds away
        pass
    page.context.route("**/pulse", lambda route: route.abort())  # our change comes first
    truth.write_bytes(written)
    page.keyboard.press("l")
    page.wait_for_selector("#banner button")
    assert "Nothing was overwritten" in page.text_content("#banner")
    assert truth.read_bytes() == written
    page.click("#banner button >> text=Keep mine")
    page.wait_for_function("() => !Object.keys(localStorage).length")  # the server has it all
    assert len(boxes_of(truth, PLAIN)) == 2
    assert len(boxes_of(truth, "sub.png")) == 1


def test_what_the_model_proposes_is_accepted_with_one_key(
    pictures: Path, mark_model: str, serve: Callable[..., Any], visit: Callable[[str], Any]
) -> None:
    page = visit(serve("label", pictures, "--model", mark_model).url)
    go(page, PLAIN)
    page.wait_for_selector("#boxes .proposal")
    page.keyboard.press("Enter")
    wait_saved(page)
    (box,) = boxes_of(pictures / "truth.xml", PLAIN)
    assert box[4] == "mark"
    assert np.abs(np.array(box[:4]) - (20, 30, 40, 24)).max() <= 4
