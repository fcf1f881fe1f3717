"""The doors to VOC, COCO, YOLO and imglab: round trips, judges of other houses, hostile files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import crops, formats, images, imglab
from nnst.errors import ImageError, InputError
from nnst.formats import FORMATS, Mark, MarkedPicture, MarkedSet, Reading

SIZE = (64, 48)  # width, height of the drawn pictures
PNG = images.encode_png(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
OTHERS = ("voc", "coco", "yolo")

# --- Round trips

names = st.text("ab é&<'0- ", min_size=1, max_size=6).map(str.strip).filter(bool)
files = st.builds("{}{}.png".format, st.sampled_from(["", "a/", "b b/ü/"]), names)
labels = st.text("ab \"é&<:#'{0", max_size=6).map(str.strip)
numbers = st.floats(-9, 9).map(lambda value: round(value, 3))
details = st.fixed_dictionaries(
    {},
    optional={
        "angle": numbers,
        "pose": numbers,
        "age": numbers,
        "gender": st.sampled_from(imglab.GENDERS),
        "parts": st.dictionaries(names, st.lists(st.integers(-9, 99), min_size=2, max_size=2))
        .filter(bool),
    },
)  # fmt: skip


@st.composite
def marks(draw: Any, whole: bool) -> Mark:
    """A box within the drawn pictures, with all that a box can have."""
    sides = []
    for side in SIZE:
        step = 1 if whole else 8  # eighths of a pixel
        start = draw(st.integers(0, side * step - 1))
        sides.append((start / step, draw(st.integers(start + 1, side * step)) / step))
    flags = {flag: draw(st.booleans()) for flag in formats.truth.FLAGS}
    score = draw(st.none() | st.floats(0, 1).map(lambda value: round(value, 4)))
    (x0, x1), (y0, y1) = sides
    label = draw(labels) or None
    return Mark(x0, y0, x1, y1, label, score=score, details=draw(details), **flags)


@st.composite
def sets(draw: Any, whole: bool = True) -> MarkedSet:
    stems = st.lists(files, min_size=1, max_size=3, unique_by=str.casefold)
    found = [
        MarkedPicture(name, tuple(draw(st.lists(marks(whole), max_size=3))), *SIZE)
        for name in draw(stems)
    ]
    words = {key: draw(labels) for key in ("name", "comment")}
    return MarkedSet(tuple(found), Path("t"), Path("t"), **words)


def write_pictures(truth: MarkedSet, folder: Path) -> MarkedSet:
    """The set with its pictures in a folder."""
    for picture in truth.pictures:
        (folder / picture.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / picture.file).write_bytes(PNG)
    return replace(truth, folder=folder)


def through(truth: MarkedSet, form: str, folder: Path) -> tuple[MarkedSet, MarkedSet]:
    """The set as it fits the format, and as it comes back from a file of it."""
    fitted = formats.fit(truth, form)
    path = folder / {"imglab": "t.xml", "coco": "t.json"}.get(form, "t")
    formats.write(fitted, path, form)
    assert formats.format_of(path) == form
    return fitted, formats.read(path, Reading(str(truth.folder) if form in OTHERS[:2] else ""))


def content(truth: MarkedSet) -> dict[str, Any]:
    """What a set says, whatever the order of its pictures."""
    return {picture.file.removeprefix("images/"): picture.marks for picture in truth.pictures}


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_fits_a_format_comes_back_from_it_as_it_was(form: str, data: Any) -> None:
    """And what does not fit is counted: with no count, it is the whole of what there was."""
    holds = formats.losses.HOLDS[form]
    truth = data.draw(sets(whole=not holds.fractions or data.draw(st.booleans())))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "p").mkdir()
        truth = write_pictures(truth, folder / "p")
        fitted, back = through(truth, form, folder)
    assert dict(back.lost) == {}
    if form == "imglab":  # whose names are relative to the file
        back = replace(
            back,
            pictures=tuple(replace(p, file=p.file.removeprefix("p/")) for p in back.pictures),
        )
    assert content(back) == content(fitted)
    assert (back.name, back.comment) == (fitted.name, fitted.comment)
    if not fitted.lost:
        assert content(back) == content(truth)


@given(truth=sets())
@settings(max_examples=25, deadline=None)
def test_nothing_but_the_labels_of_unlabelled_boxes_is_lost_on_the_way_through_coco_and_voc(
    truth: MarkedSet,
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        truth = write_pictures(truth, folder)
        for form in ("coco", "voc"):
            fitted, _ = through(truth, form, Path(tempfile.mkdtemp(dir=place)))
            assert set(fitted.lost) <= {"unlabelled", *(["name"] if form == "voc" else [])}


@pytest.mark.parametrize("digits", [4, 6])
def test_a_yolo_box_of_few_digits_is_on_the_pixels_that_it_was_drawn_on(
    tmp_path: Path, digits: int
) -> None:
    """What labelImg and others write: a share of a large picture to so many places."""
    width, height, (x0, y0, x1, y1) = 400, 300, (37, 11, 251, 298)
    (tmp_path / "a.png").write_bytes(images.encode_png(np.zeros((height, width, 3), np.uint8)))
    shares = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
    (tmp_path / "a.txt").write_text("0 " + " ".join(f"{share:.{digits}f}" for share in shares))
    (tmp_path / "classes.txt").write_text("acme\n")
    (found,) = formats.read(tmp_path).pictures[0].marks
    assert found == Mark(x0, y0, x1, y1, "acme")


# --- Conventions and losses


def one(tmp_path: Path, mark: Mark) -> MarkedSet:
    """A set of one picture with one box."""
    return write_pictures(
        MarkedSet((MarkedPicture("a.png", (mark,), *SIZE),), tmp_path, tmp_path), tmp_path
    )


def test_voc_counts_from_1_and_includes_the_last_pixel(tmp_path: Path) -> None:
    _, back = through(one(tmp_path, Mark(0, 0, 2, SIZE[1], "x")), "voc", tmp_path)
    text = (tmp_path / "t" / "a.xml").read_text()
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>48</ymax>" in text
    assert back.pictures[0].marks == (Mark(0, 0, 2, SIZE[1], "x"),)


def test_what_a_format_cannot_hold_is_counted_by_kind(tmp_path: Path) -> None:
    drawn = (
        Mark(0.4, 0, 10, 10, None, difficult=True, score=0.5, details={"angle": 1.0}),
        Mark(-5, 0, 10, 10, "a", ignore=True),
        Mark(60, 0, 70, 10, "a"),
        Mark(70, 0, 80, 10, "a"),
    )
    picture = MarkedPicture("a.png", drawn, *SIZE)
    truth = replace(one(tmp_path, drawn[0]), pictures=(picture,), labels=("a", "b"), name="n")
    assert formats.fit(truth, "imglab").lost == {"fraction": 1, "unused_label": 1}
    assert formats.fit(truth, "voc").lost == {
        **{"fraction": 1, "overhang": 2, "outside": 1, "unlabelled": 1, "name": 1},
        "unused_label": 1,
    }
    assert formats.fit(truth, "coco").lost == {"unlabelled": 1}
    yolo = formats.fit(truth, "yolo").lost
    assert yolo == {
        **{"ignored": 1, "overhang": 1, "outside": 1, "unlabelled": 1, "difficult": 1},
        **{"score": 1, "details": 1, "name": 1},
    }
    assert len(formats.losses.lines(yolo)) == len(yolo)


def test_outlines_and_key_points_of_coco_are_counted_as_lost(tmp_path: Path) -> None:
    entry = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3.5, 4], "segmentation": [[1, 2]]}
    write_coco(tmp_path, annotations=[entry | {"keypoints": [1], "attributes": {"colour": "red"}}])
    found = formats.read(tmp_path / "t.json")
    assert found.lost == {"outline": 1, "keypoints": 1, "attribute": 1}
    assert found.pictures[0].marks == (Mark(1, 2, 4.5, 6, "acme"),)


def test_an_outline_of_yolo_becomes_the_box_around_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("0 0.25 0.5 0.5 0.25 0.75 0.75\n")
    (tmp_path / "data.yaml").write_text("names: {0: acme}")
    found = formats.read(tmp_path)
    assert found.pictures[0].marks == (Mark(16, 12, 48, 36, "acme"),)
    assert found.lost == {"outline": 1}


@pytest.mark.parametrize("form", OTHERS)
def test_boxes_of_turned_pictures_are_those_of_stored_pixels_inside(
    form: str, tmp_path: Path, with_orientation: Callable[[bytes, int], bytes]
) -> None:
    """Stored 64 x 48, seen 48 x 64 (orientation 6: the first row is the right side)."""
    jpeg = images.encode_jpeg(np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "a.jpg").write_bytes(with_orientation(jpeg, 6))
    mark = Mark(4, 8, 20, 40, "x", details={} if form == "yolo" else {"parts": {"p": [4, 8]}})
    truth = MarkedSet((MarkedPicture("a.jpg", (mark,), *SIZE),), tmp_path, tmp_path)
    fitted = formats.fit(truth, form, boxes_upright=True)
    (turned,) = fitted.pictures
    assert (turned.width, turned.height) == (48, 64)
    assert [getattr(turned.marks[0], side) for side in ("x0", "y0", "x1", "y1")] == [8, 4, 40, 20]
    path = tmp_path / ("t.json" if form == "coco" else "t")
    formats.write(fitted, path, form)
    pictures = "" if form == "yolo" else str(tmp_path)
    (back,) = formats.read(path, Reading(pictures, boxes_upright=True)).pictures
    assert (back.marks, back.width, back.height) == ((mark,), *SIZE)


def test_upright_boxes_of_a_picture_that_is_not_there_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    with pytest.raises(InputError, match=r"'a\.png' cannot be opened, so how it lies is not known"):
        formats.read(tmp_path / "t.json", Reading(boxes_upright=True))


# --- Judges of other houses


@pytest.fixture
def judged(tmp_path: Path) -> MarkedSet:
    drawn = (Mark(3, 5, 20, 40, "acme"), Mark(10.25, 4.5, 30, 47.75, "other word"))
    truth = MarkedSet((MarkedPicture("a.png", drawn, *SIZE),), tmp_path, tmp_path)
    return write_pictures(truth, tmp_path)


def as_globox_sees(found: Any) -> list[tuple[Any, ...]]:
    (each,) = found
    return [(box.label, box.xmin, box.ymin, box.xmax, box.ymax) for box in each.boxes]


def test_globox_reads_our_voc(judged: MarkedSet, tmp_path: Path) -> None:
    """It takes the numbers as they are: from 1, the last pixel included."""
    globox = pytest.importorskip("globox")
    through(judged, "voc", tmp_path)
    found = as_globox_sees(globox.AnnotationSet.from_pascal_voc(tmp_path / "t"))
    assert found == [("acme", 4, 6, 20, 40), ("other word", 11, 6, 30, 48)]


def test_globox_reads_our_yolo(judged: MarkedSet, tmp_path: Path) -> None:
    globox = pytest.importorskip("globox")
    through(judged, "yolo", tmp_path)
    folders = tmp_path / "t" / "labels", tmp_path / "t" / "images"
    found = globox.AnnotationSet.from_yolo_v5(
        folders[0], image_folder=folders[1], image_extension=".png"
    )
    seen = as_globox_sees(found)
    assert [row[0] for row in seen] == ["0", "1"]
    np.testing.assert_allclose(
        [row[1:] for row in seen], [(3, 5, 20, 40), (10.25, 4.5, 30, 47.75)], atol=1e-6
    )


def test_pycocotools_reads_our_coco_and_its_evaluation_takes_it(
    judged: MarkedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two boxes and one to ignore, the two are found: average precision 1."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    picture = judged.pictures[0]
    aside = Mark(40, 0, 60, 40, "acme", ignore=True)
    truth = replace(judged, pictures=(replace(picture, marks=(*picture.marks, aside)),))
    through(truth, "coco", tmp_path)
    book = coco.COCO(str(tmp_path / "t.json"))
    assert [book.imgs[1][key] for key in ("file_name", "width", "height")] == ["a.png", *SIZE]
    boxes = [each["bbox"] for each in book.loadAnns(book.getAnnIds())]
    assert boxes == [[3, 5, 17, 35], [10.25, 4.5, 19.75, 43.25], [40, 0, 20, 40]]
    results = [
        {"image_id": 1, "category_id": each["category_id"], "bbox": each["bbox"], "score": 0.9}
        for each in book.anns.values()
    ]
    judge = evaluation.COCOeval(book, book.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    capsys.readouterr()
    assert judge.stats[1] == pytest.approx(1)


def test_dlib_reads_what_came_from_coco(judged: MarkedSet, tmp_path: Path) -> None:
    dlib = pytest.importorskip("dlib")
    _, back = through(judged, "coco", tmp_path)
    formats.write(formats.fit(back, "imglab"), tmp_path / "back.xml", "imglab")
    (found,) = dlib.image_dataset_metadata.load_image_dataset_metadata(
        str(tmp_path / "back.xml")
    ).images
    rects = [
        (box.rect.left(), box.rect.top(), box.rect.right(), box.rect.bottom())
        for box in found.boxes
    ]
    assert rects == [(3, 5, 19, 39), (10, 5, 29, 47)]


def test_every_genuine_imglab_file_goes_through_coco_and_comes_back(
    shared_data: Path, tmp_path: Path
) -> None:
    """All that is lost is that boxes had no label."""
    found = sorted([*shared_data.glob("imglab_xml/*.xml"), *shared_data.glob("dlib_faces/*.xml")])
    assert len(found) >= 10
    for path in found:
        truth = formats.read(path, Reading(allow_outside=True))
        fitted, back = through(truth, "coco", Path(tempfile.mkdtemp(dir=tmp_path)))
        assert set(fitted.lost) <= {"unlabelled"}, path
        assert content(back) == content(fitted), path


# --- Truth in any format is truth


def test_crops_are_planned_alike_from_every_format(scenes: Any, tmp_path: Path) -> None:
    truth = formats.read(scenes.truth)
    wanted = crops.plan([str(scenes.truth)], False, 4)
    for form in OTHERS:
        path = tmp_path / ("t.json" if form == "coco" else form)
        formats.write(formats.fit(truth, form), path, form)
        pictures = "" if form == "yolo" else str(scenes.folder)
        found = crops.plan([str(path)], False, 4, pictures)
        assert len(found.truth) == len(wanted.truth)
        for name, annotation in found.truth.items():
            expected = wanted.truth[os.path.basename(name)]
            np.testing.assert_array_equal(annotation.boxes, expected.boxes)
            assert annotation.labels == expected.labels
        assert set(found.inputs["reason"].to_pylist()) == {None}


# --- Hostile files


def write_coco(folder: Path, **changed: Any) -> Path:
    document: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 3, "name": "acme"}],
    }
    path = folder / "t.json"
    path.write_text(json.dumps(document | changed))
    return path


def annotated(**changed: Any) -> list[dict[str, Any]]:
    return [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]} | changed]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"annotations": annotated(bbox=[1, 2, float("nan"), 4])}, "NaN is no JSON"),
        ({"annotations": annotated(bbox=[1, 2, 1e300, 4])}, r"annotations\[0\]: '1e\+300' is not"),
        ({"annotations": annotated(bbox=["1", "two", 3, 4])}, "'two' is not a number"),
        ({"annotations": annotated(bbox=[1, 2, 3])}, "bbox is not x, y, width and height"),
        ({"annotations": annotated(bbox=[1, 10**400, 3, 4])}, "is not a number"),
        ({"annotations": annotated(image_id=8)}, "no image has the id '8'"),
        ({"annotations": annotated(image_id=[8])}, "image_id is neither a number nor text"),
        ({"annotations": annotated(category_id=4)}, "no category has the id '4'"),
        ({"annotations": [3]}, "annotations is not a list of entries"),
        ({"annotations": annotated(attributes={"parts": [1]})}, "parts that have no names"),
        ({"images": [{"id": 7}]}, r"images\[0\]: no name of a picture"),
        ({"images": [{"id": 7, "file_name": "a\nb.png"}]}, "holds a line break"),
        ({"images": [{"id": 7, "file_name": "a\ud800.png"}]}, "XML cannot hold"),
        ({"images": [{"id": 7, "file_name": "a"}] * 2}, "the id '7' for a second time"),
        ({"images": 5}, "has no list of images"),
        ({"categories": [{"id": 3, "name": "a\nb"}]}, "no label of one line"),
    ],
    ids=str,
)  # fmt: skip
def test_a_coco_file_that_cannot_be_is_one_line_with_its_place(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as told:
        formats.read(write_coco(tmp_path, **changed))
    assert "t.json" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('[{"image_id": 1}]', "a list of results without pictures"),
        ('{"images": [}', "is not JSON"),
        ('{"images": ' + "1" * 5000 + "}", "is not JSON"),
        ("\ufeff{\udcff", "is not UTF-8"),
    ],
    ids=["deep", "results", "broken", "long", "bytes"],
)
def test_json_that_is_no_coco_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=said):
        formats.read(tmp_path / "t.json")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "t.json").open("wb") as stream:
        stream.write(b"{")
        stream.truncate(formats.coco.MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(InputError, match="is larger than 536870912 bytes"):
        formats.read(tmp_path / "t.json")


VOC_BOX = "<filename>a.png</filename><object><name>x</name><bndbox>{}</bndbox>{}</object>"
CORNERS = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("<filename>a\nb.png</filename>", "holds a line break"),
        ("<size/>", "no name of a picture"),
        (VOC_BOX.format("", ""), "'' is not a number"),
        (VOC_BOX.format("<xmin>nan</xmin>", ""), "'nan' is not a number"),
        (VOC_BOX.format(CORNERS, "<difficult>2</difficult>"), "difficult '2' is neither 1 nor 0"),
    ],
    ids=["line", "nameless", "boxless", "nan", "flag"],
)  # fmt: skip
def test_a_voc_file_that_cannot_be_is_one_line_with_its_place(
    tmp_path: Path, inner: str, said: str
) -> None:
    (tmp_path / "a.xml").write_text(f"<annotation>{inner}</annotation>")
    with pytest.raises(InputError, match=said) as told:
        formats.read(tmp_path)
    assert "a.xml" in str(told.value)
    assert "\n" not in str(told.value)


def test_voc_with_entities_is_refused_as_imglab_files_are(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        "<annotation><filename>&e;</filename></annotation>"
    )
    with pytest.raises(InputError, match="line 1: a DOCTYPE or ENTITY declaration"):
        formats.read(tmp_path)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\n"


@pytest.mark.parametrize(
    ("yaml", "line", "said"),
    [
        (BOMB, "", "refers to itself"),
        ("names: !!python/object/apply:os.system [id]", "", "is not plain YAML"),
        ("names: 5", "", "has no names of classes"),
        ("nc: [", "", "is not plain YAML"),
        ("names: [acme]", "1 0.5 0.5 0.1 0.1", "line 1: no name for the class '1'"),
        ("names: [acme]", "\n0 0.5 0.5 nan 0.1", "line 2: 'nan' is not a number"),
        ("names: [acme]", "0 0.5 0.5", "line 1: 3 columns, and a box has 5"),
    ],
    ids=["bomb", "object", "number", "broken", "class", "nan", "columns"],
)
def test_a_yolo_folder_that_cannot_be_is_one_line_with_its_place(
    tmp_path: Path, yaml: str, line: str, said: str
) -> None:
    (tmp_path / "data.yaml").write_text(yaml)
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(InputError, match=said) as told:
        formats.read(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["../up.png", "/etc/a.png", "a/../../b.png", "C:\\a.png"])
def test_nothing_is_written_or_read_outside_the_folder_that_was_given(
    tmp_path: Path, name: str
) -> None:
    """Names that lead out are refused by each writer, and a reader opens no such picture."""
    write_coco(tmp_path, images=[{"id": 7, "file_name": name, "width": 64, "height": 48}])
    truth = formats.read(tmp_path / "t.json")
    with pytest.raises(ImageError, match="unsafe_path"):
        truth.resolve(truth.pictures[0])
    for form in OTHERS:
        with pytest.raises(InputError, match="leaves the folder of the pictures"):
            formats.write(formats.fit(truth, form), tmp_path / form, form)
        assert not (tmp_path / form).exists()


def test_a_set_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    truth = formats.fit(one(tmp_path, Mark(1, 1, 9, 9, "x")), "coco")
    formats.write(truth, tmp_path / "t.json", "coco")
    with pytest.raises(InputError, match="is there already"):
        formats.write(truth, tmp_path / "t.json", "coco")
    with pytest.raises(InputError, match="is not empty"):
        formats.write(formats.fit(truth, "voc"), tmp_path, "voc")


def test_two_pictures_that_yolo_has_one_name_for_are_refused(tmp_path: Path) -> None:
    pictures = tuple(MarkedPicture(name, (), *SIZE) for name in ("a.png", "a.jpg"))
    truth = MarkedSet(pictures, tmp_path, tmp_path)
    with pytest.raises(InputError, match="one label file for"):
        formats.write(formats.fit(truth, "yolo"), tmp_path / "t", "yolo")
    formats.write(formats.fit(truth, "voc"), tmp_path / "v", "voc")
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["a.jpg.xml", "a.png.xml"]


def test_a_folder_of_two_kinds_of_truth_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation/>")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="holds yolo files and voc files"):
        formats.read(tmp_path)
