"""Truth records: what they refuse, and which file a picture's name may lead to."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from nnst import imglab
from nnst.errors import ImageError
from nnst.imglab.truth import MAX_COORDINATE, Box, Dataset, Image, Part, annotation, picture_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set's folder with `sub/a.png` in it and `secret.png` beside it."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    inside = tmp_path / "set"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "a.png").write_bytes(b"a")
    return inside


@pytest.mark.parametrize(
    "name",
    ["sub/a.png", "./sub/a.png", "sub//a.png", "sub/../sub/a.png", "sub\\a.png", ".\\sub\\a.png"],
)
def test_a_name_leads_to_its_file(folder: Path, name: str) -> None:
    assert picture_path(folder, name).read_bytes() == b"a"


def test_an_absolute_name_inside_the_folder_does_not_leave_it(folder: Path) -> None:
    assert picture_path(folder, str(folder / "sub" / "a.png")).read_bytes() == b"a"


def test_a_name_that_exists_as_written_is_taken_as_written(folder: Path) -> None:
    (folder / "sub\\a.png").write_bytes(b"with a backslash")
    assert picture_path(folder, "sub\\a.png").read_bytes() == b"with a backslash"


def test_names_of_a_folder_given_relatively_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert picture_path(Path(), "sub/a.png") == Path("sub/a.png")


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("caf\u00e9_\u65e5.png", "caf\u00e9_\u65e5.png".encode().decode("latin-1")),
        ("a\u2013b.png", "a\u2013b.png".encode("cp1252").decode("latin-1")),  # Windows' dash
        ("caf\u00e9.png", "cafe\u0301.png"),  # macOS decomposes accents
        ("cafe\u0301.png", "caf\u00e9.png"),
    ],
)
def test_a_misspelt_name_is_found(folder: Path, on_disk: str, written: str) -> None:
    (folder / "sub" / on_disk).write_bytes(b"found")
    assert picture_path(folder, f"sub/{written}").read_bytes() == b"found"
    assert picture_path(folder, f"sub\\{written}").read_bytes() == b"found"


UNSAFE = [
    "../secret.png",
    "sub/../../secret.png",
    "..\\secret.png",
    "sub\\..\\..\\secret.png",
    "/etc/passwd",
    "//host/share/x.png",
    "\\\\host\\share\\x.png",
    "\\x.png",
    "C:\\x.png",
    "c:/x.png",
    "C:x.png",
    "../set2/x.png",  # a folder whose name begins like this one's
]
NO_NAMES = [
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "http://127.0.0.1/x.png",
    "s3://bucket/x.png",
    "data:image/png;base64,AAAA",
    "a\0.png",
    "\ud800.png",
    "",
    "a" * 5000,
    "a/" * 2_000_000,
]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leaves_the_folder_is_refused_with_the_remedy(folder: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"leaves the folder .*allow_outside") as caught:
        picture_path(folder, name)
    assert caught.value.reason == "unsafe_path"


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("allow_outside", [False, True])
def test_what_is_no_file_name_is_always_refused(
    folder: Path, name: str, allow_outside: bool
) -> None:
    with pytest.raises(ImageError) as caught:
        picture_path(folder, name, allow_outside=allow_outside)
    assert caught.value.reason == "unsafe_path"
    assert len(str(caught.value)) < 1000


def test_names_may_leave_the_folder_when_allowed(folder: Path) -> None:
    secret = folder.parent / "secret.png"
    for name in ("../secret.png", "..\\secret.png", str(secret)):
        assert picture_path(folder, name, allow_outside=True).read_bytes() == b"secret"


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "file.png").symlink_to("../secret.png")
    (folder / "up").symlink_to("..")
    (folder / "within.png").symlink_to("sub/a.png")
    for name in ("file.png", "up/secret.png", "up\\secret.png", "up/../secret.png"):
        with pytest.raises(ImageError) as caught:
            picture_path(folder, name)
        assert caught.value.reason == "unsafe_path"
    assert picture_path(folder, "file.png", allow_outside=True).read_bytes() == b"secret"
    assert picture_path(folder, "within.png").read_bytes() == b"a"


def test_a_folder_reached_by_a_link_is_its_own_inside(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to("set")
    assert picture_path(link, "sub/a.png").read_bytes() == b"a"


def test_what_is_not_there_or_no_file_is_missing(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    for name in ("b.png", "sub", ".", "pipe.png", "loop.png", "a" * 300, "sub/a.png/b.png"):
        with pytest.raises(ImageError) as caught:
            picture_path(folder, name)
        assert caught.value.reason == "missing"


def test_resolve_goes_from_the_folder_of_the_data_set(folder: Path) -> None:
    inside, outside = Image("sub\\a.png"), Image("../secret.png")
    closed = Dataset([inside, outside], path=folder / "t.xml")
    assert closed.resolve(inside) == folder / "sub/a.png"
    with pytest.raises(ImageError):
        closed.resolve(outside)
    opened = Dataset([inside, outside], path=folder / "t.xml", allow_outside=True)
    assert opened.resolve(outside).read_bytes() == b"secret"


def test_annotation_is_half_open_and_names_the_unlabelled() -> None:
    image = Image(
        "a.png",
        (
            Box(left=-3, top=4, width=10, height=1, label=" VMware ", difficult=True),
            Box(left=5, top=6, width=7, height=8, ignore=True),
        ),
    )
    truth = annotation(image)
    assert (truth.image, truth.image_id) == ("a.png", "")
    assert truth.boxes.tolist() == [[-3, 4, 7, 5], [5, 6, 12, 14]]
    assert truth.boxes.dtype == np.float32
    assert truth.labels == ("VMware", "logo")
    assert truth.ignore.tolist() == [False, True]
    assert truth.difficult.tolist() == [True, False]


def test_annotation_of_an_image_without_boxes_is_empty() -> None:
    assert annotation(Image("a.png")).boxes.shape == (0, 4)


def test_annotation_takes_the_largest_box() -> None:
    image = Image("a.png", (Box(0, 0, MAX_COORDINATE, MAX_COORDINATE),))
    assert annotation(image).boxes.tolist() == [[0, 0, 2.0**31, 2.0**31]]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"width": 0}, "width must be from 1"),
        ({"height": -3}, "height must be from 1"),
        ({"left": 2**31}, "left must be from"),
        ({"top": -(2**31)}, "top must be from"),
        ({"angle": math.nan}, "angle must be finite"),
        ({"detection_score": math.inf}, "detection_score must be finite"),
        ({"gender": "Male"}, "gender must be one of"),
        ({"label": "a\0"}, "cannot hold"),
        ({"parts": (Part("a", 1, 2), Part("a", 3, 4))}, "have one name"),
    ],
)
def test_a_box_that_no_file_can_hold_is_refused(fields: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Box(**({"left": 1, "top": 2, "width": 3, "height": 4} | fields))


def test_coordinates_are_whole_numbers() -> None:
    with pytest.raises(TypeError):
        Box(1.5, 2, 3, 4)  # type: ignore[arg-type]


def test_records_hold_plain_values_whatever_they_are_built_from() -> None:
    box = Box(*np.array([1, 2, 3, 4]), label="  ", angle=np.float32(0.5), parts=[Part("p", 1, 2)])
    assert box == Box(1, 2, 3, 4, angle=0.5, parts=(Part("p", 1, 2),))
    assert type(box.left) is int
    assert type(box.angle) is float
    assert (Image("a", width=5).width, Image("a", width=5, height=6).width) == (None, 5)


def test_an_image_needs_a_name_and_a_data_set_each_name_once() -> None:
    with pytest.raises(ValueError, match="empty"):
        Image("")
    with pytest.raises(ValueError, match="one file"):
        Dataset([Image("a"), Image("a")])


def test_records_travel_between_processes() -> None:
    dataset = Dataset([Image("a", [Box(1, 2, 3, 4, parts=[Part("p", 1, 2)])])], name="n")
    assert pickle.loads(pickle.dumps(dataset)) == dataset
    assert hash(dataset) == hash(Dataset(dataset.images, name="n", path=Path("elsewhere")))


def test_imglab_hands_out_the_same_records() -> None:
    assert (imglab.Box, imglab.Image, imglab.Dataset) == (Box, Image, Dataset)
