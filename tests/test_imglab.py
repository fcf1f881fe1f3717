"""imglab files: what comes out of every one we have, and dlib as the judge of what we write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import imglab
from nnst.errors import ImageError, InputError
from nnst.imglab import Box, Dataset, Image, Part

dlib_metadata = pytest.importorskip("dlib", reason="dlib-bin is not here").image_dataset_metadata

# Every genuine file: images, images without boxes, boxes, ignored, parts, labels.
GENUINE = {
    "imglab_xml/dlib_faces_training.xml": (4, 0, 18, 0, 0, {None}),
    "imglab_xml/dlib_faces_training_landmarks.xml": (4, 0, 18, 0, 1224, {None}),
    "imglab_xml/pedestrian_training.xml": (34, 0, 2412, 0, 0, {None}),
    "imglab_xml/robocup_goal_all.xml": (279, 266, 13, 0, 0, {None}),
    "imglab_xml/robocup_goal_training.xml": (279, 266, 13, 0, 0, {None}),
    "imglab_xml/robocup_robot_all.xml": (142, 142, 0, 0, 0, set()),
    "imglab_xml/robocup_soccer_ball_all.xml": (61, 61, 0, 0, 0, set()),
    "imglab_xml/sealchip_training_EXCERPT.xml": (3, 0, 13, 8, 0, {None}),
    "imglab_xml/transito_pare_training.xml": (37, 0, 37, 0, 0, {"PARE"}),
    "dlib_faces/training.xml": (4, 0, 18, 0, 0, {None}),
    "dlib_faces/training_with_face_landmarks.xml": (4, 0, 18, 0, 1224, {None}),
}

# Every hostile file: either how many images and boxes come out, or what is said.
HOSTILE: dict[str, tuple[int, int] | str] = {
    "billion_laughs.xml": "line 1: a DOCTYPE",
    "bom_utf16.xml": (0, 0),
    "boxes_bad.xml": "line 14: width must be from 1 to 2147483647, got 1e",
    "deep_300.xml": "depth",
    "dup_and_missing_images.xml": "line 16: <image> has no file",
    "empty.xml": "is empty",
    "gzipped.xml": "gzip; decompress it",
    "html.xml": "line 1: the root element is <html>, not <dataset>",
    "internal_entity_in_path.xml": "line 1: a DOCTYPE",
    "latin1_label_undeclared.xml": "line 1, column 112: .*save it as UTF-8",
    "nul_bytes.xml": "line 1, column 10: Invalid character",
    "ok.xml": (1, 1),
    "paths_escape.xml": (9, 9),
    "pi_stylesheet_remote.xml": (0, 0),
    "quadratic.xml": "line 1: a DOCTYPE",
    "truncated.xml": "line 8, column 10",
    "unescaped_ampersand_quote.xml": "line 7, column 21: .*write & as &amp;",
    "utf8_path_declared_latin1.xml": (1, 1),
    "wrong_root_namespaced.xml": "line 1: the root element is <{urn:x}dataset>",
    "xinclude.xml": (0, 0),
    "xxe_attr_default_dtd.xml": "line 1: a DOCTYPE",
    "xxe_file.xml": "line 1: a DOCTYPE",
    "xxe_http.xml": "line 1: a DOCTYPE",
    "xxe_parameter_entity.xml": "line 1: a DOCTYPE",
}


def boxes_of(dataset: Dataset) -> list[Box]:
    return [box for image in dataset.images for box in image.boxes]


def read(folder: Path, text: str) -> Dataset:
    """The data set in a file of this text."""
    path = folder / "t.xml"
    path.write_text(text, encoding="utf-8")
    return imglab.read(path)


def read_image(folder: Path, inner: str, attributes: str = "file='a.png'") -> Dataset:
    """The data set of one image; `inner` begins on line 3."""
    return read(
        folder,
        f"<dataset><images>\n<image {attributes}>\n{inner}\n</image></images></dataset>",
    )


def as_dlib_sees(path: Path) -> list[tuple]:
    """What dlib's own reader finds, as plain values."""
    return [
        (
            image.filename,
            [
                (
                    (box.rect.left(), box.rect.top(), box.rect.width(), box.rect.height()),
                    box.label,
                    (box.ignore, box.difficult, box.truncated, box.occluded),
                    (box.angle, box.pose, box.detection_score, box.age),
                    box.gender.name,
                    sorted((name, point.x, point.y) for name, point in box.parts.items()),
                )
                for box in image.boxes
            ],
        )
        for image in dlib_metadata.load_image_dataset_metadata(str(path)).images
    ]


def as_we_see(dataset: Dataset) -> list[tuple]:
    """The same of ours; what is not set is 0 or empty to dlib."""
    return [
        (
            image.file,
            [
                (
                    (box.left, box.top, box.width, box.height),
                    box.label or "",
                    (box.ignore, box.difficult, box.truncated, box.occluded),
                    tuple(x or 0 for x in (box.angle, box.pose, box.detection_score, box.age)),
                    (box.gender or "unknown").upper(),
                    sorted((part.name, part.x, part.y) for part in box.parts),
                )
                for box in image.boxes
            ],
        )
        for image in dataset.images
    ]


@pytest.mark.parametrize("name", GENUINE)
def test_every_genuine_file_is_read_as_dlib_reads_it(shared_data: Path, name: str) -> None:
    images, without, boxes, ignored, parts, labels = GENUINE[name]
    dataset = imglab.read(shared_data / name)
    found = boxes_of(dataset)
    assert len(dataset.images) == images
    assert sum(not image.boxes for image in dataset.images) == without
    assert len(found) == boxes
    assert sum(box.ignore for box in found) == ignored
    assert sum(len(box.parts) for box in found) == parts
    assert {box.label for box in found} == labels
    assert dataset.warnings == ()
    assert as_we_see(dataset) == as_dlib_sees(shared_data / name)


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_file_is_read_or_refused(shared_data: Path, name: str) -> None:
    expected = HOSTILE[name]
    path = shared_data / "hostile" / "xml" / name
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as caught:
            imglab.read(path)
        assert str(path) in caught.value.what
        assert caught.value.remedy
    else:
        dataset = imglab.read(path)
        assert (len(dataset.images), len(boxes_of(dataset))) == expected


def test_no_file_that_we_have_is_left_out(shared_data: Path) -> None:
    genuine = {f"{d}/{p.name}" for d in ("imglab_xml", "dlib_faces") for p in _xml(shared_data / d)}
    assert genuine == set(GENUINE)
    assert {path.name for path in _xml(shared_data / "hostile" / "xml")} == set(HOSTILE)


def _xml(folder: Path) -> list[Path]:
    return list(folder.glob("*.xml"))


def test_details_of_genuine_files(shared_data: Path) -> None:
    faces = imglab.read(shared_data / "dlib_faces" / "training_with_face_landmarks.xml")
    assert faces.name == "Training faces"
    assert faces.comment.startswith("These are images from the PASCAL VOC 2011 dataset.\n")
    assert (faces.images[0].width, faces.images[0].height) == (500, 375)
    assert faces.images[0].boxes[0].parts[0] == Part("00", 201, 107)
    assert faces.resolve(faces.images[0]).is_file()
    seals = imglab.read(shared_data / "imglab_xml" / "sealchip_training_EXCERPT.xml")
    assert min(box.left for box in boxes_of(seals)) == -1
    with pytest.raises(ImageError) as caught:
        seals.resolve(seals.images[0])
    assert caught.value.reason == "missing"


def test_the_pictures_of_the_stop_signs_are_found(shared_data: Path) -> None:
    signs = imglab.read(shared_data / "pare" / "training.xml")
    assert all(signs.resolve(image).is_file() for image in signs.images)


def test_escaping_paths_are_read_and_not_opened(shared_data: Path) -> None:
    dataset = imglab.read(shared_data / "hostile" / "xml" / "paths_escape.xml")
    reasons = []
    for image in dataset.images:
        with pytest.raises(ImageError) as caught:
            dataset.resolve(image)
        reasons.append(caught.value.reason)
    assert reasons == ["unsafe_path"] * 8 + ["missing"]


def test_utf_8_under_a_latin_1_header_gives_the_name_that_is_on_the_disk(shared_data: Path) -> None:
    dataset = imglab.read(shared_data / "hostile" / "xml" / "utf8_path_declared_latin1.xml")
    assert dataset.images[0].file == "caf\u00e9_\u65e5\u672c.png"


FULL = Box(
    left=-3,
    top=-4,
    width=14,
    height=25,
    label="tom & 'jerry' <\"3> \u65e5",
    ignore=True,
    difficult=True,
    truncated=True,
    occluded=True,
    angle=-0.1,
    pose=2.0,
    detection_score=1 / 3,
    gender="female",
    age=33.5,
    parts=(Part("a'b", 1, -2), Part("00", 0, 7)),
)


def test_every_field_reaches_dlib(tmp_path: Path) -> None:
    dataset = Dataset(
        images=[
            Image("a/b.png", [FULL, Box(1, 2, 3, 4)], width=640, height=480),
            Image("jerry's.png"),
            Image('12" \u65e5\u672c.png', [Box(0, 0, 1, 1, gender="male")]),
        ],
        name="n & <m>",
        comment="two\nlines",
    )
    imglab.write(dataset, tmp_path / "t.xml")
    assert as_dlib_sees(tmp_path / "t.xml") == as_we_see(dataset)
    found = dlib_metadata.load_image_dataset_metadata(str(tmp_path / "t.xml"))
    assert (found.name, found.comment) == (dataset.name, dataset.comment)
    assert imglab.read(tmp_path / "t.xml") == dataset


def test_dlib_shows_the_escapes_of_a_file_name_and_keeps_them(tmp_path: Path) -> None:
    """dlib decodes no entity in attributes, so it reads `&amp;` literally, and writes it so."""
    dataset = Dataset([Image("a & <b>.png", [Box(1, 2, 3, 4)])])
    imglab.write(dataset, tmp_path / "ours.xml")
    found = dlib_metadata.load_image_dataset_metadata(str(tmp_path / "ours.xml"))
    assert found.images[0].filename == "a &amp; &lt;b&gt;.png"
    dlib_metadata.save_image_dataset_metadata(found, str(tmp_path / "theirs.xml"))
    assert imglab.read(tmp_path / "theirs.xml") == dataset


def dlib_writes(path: Path, file: str, label: str = "") -> None:
    """A file by dlib's own writer, of one box with everything set."""
    box = dlib_metadata.box()
    box.rect = pytest.importorskip("dlib").rectangle(-3, -4, 10, 20)
    box.label, box.angle, box.pose, box.age, box.detection_score = label, 0.5, 2, 33.5, 0.25
    box.ignore = box.difficult = box.truncated = box.occluded = True
    box.gender = dlib_metadata.box.gender_type.FEMALE
    box.parts["nose"] = pytest.importorskip("dlib").point(1, -2)
    image = dlib_metadata.image()
    image.filename = file
    image.boxes.append(box)
    dataset = dlib_metadata.dataset()
    dataset.name, dataset.comment = "n", "c"
    dataset.images.append(image)
    dlib_metadata.save_image_dataset_metadata(dataset, str(path))


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("a.png", ""),
        ("a/b.png", "logo"),
        ("a\\b.png", "x"),
        ('12".png', "a'b"),
        ("\u65e5", "\u65e5"),
    ],
)
def test_what_dlib_writes_is_read_as_dlib_reads_it(tmp_path: Path, file: str, label: str) -> None:
    dlib_writes(tmp_path / "t.xml", file, label)
    dataset = imglab.read(tmp_path / "t.xml")
    assert as_we_see(dataset) == as_dlib_sees(tmp_path / "t.xml")
    assert dataset.images == (
        Image(
            file,
            [
                Box(
                    left=-3,
                    top=-4,
                    width=14,
                    height=25,
                    label=label or None,
                    ignore=True,
                    difficult=True,
                    truncated=True,
                    occluded=True,
                    angle=0.5,
                    pose=2,
                    detection_score=0.25,
                    gender="female",
                    age=33.5,
                    parts=[Part("nose", 1, -2)],
                )
            ],
        ),
    )


@pytest.mark.parametrize(
    ("file", "label"),
    [("a & b", ""), ("a&b", ""), ("a<b", ""), ("jerry's", ""), ("a", "a & b"), ("a", "a < b")],
)
def test_what_dlib_leaves_unescaped_is_refused_with_the_remedy(
    tmp_path: Path, file: str, label: str
) -> None:
    dlib_writes(tmp_path / "t.xml", file, label)
    with pytest.raises(InputError, match=r"t.xml, line \d+, column \d+: .*write & as &amp;"):
        imglab.read(tmp_path / "t.xml")


# Characters that XML can hold; the stripping and line ends are the constructors' business.
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)
TEXT = ANY_TEXT | st.text("a &<>'\"\t\r\n;]\u65e5")
DLIB_NAME = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff&<>'\""
    ),
    min_size=1,
)
WHOLE = st.integers(-(2**31) + 1, 2**31 - 1)
SIDE = st.integers(1, 2**31 - 1)
REAL = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def parts(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Part]]:
    part = st.builds(Part, names, WHOLE, WHOLE)
    return st.lists(part, max_size=3, unique_by=lambda part: part.name)


def datasets(names: st.SearchStrategy[str]) -> st.SearchStrategy[Dataset]:
    box = st.builds(
        Box,
        left=WHOLE,
        top=WHOLE,
        width=SIDE,
        height=SIDE,
        label=st.none() | TEXT,
        ignore=st.booleans(),
        difficult=st.booleans(),
        truncated=st.booleans(),
        occluded=st.booleans(),
        angle=REAL,
        pose=REAL,
        detection_score=REAL,
        gender=st.none() | st.sampled_from(imglab.GENDERS),
        age=REAL,
        parts=parts(names),
    )
    size = st.none() | SIDE
    image = st.builds(Image, names, st.lists(box, max_size=2), size, size)
    images = st.lists(image, max_size=3, unique_by=lambda image: image.file)
    return st.builds(Dataset, images, name=TEXT, comment=TEXT)


@settings(max_examples=100, deadline=None)
@given(dataset=datasets(TEXT.filter(len)))
def test_what_is_written_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.xml"
    imglab.write(dataset, path)
    assert imglab.read(path) == dataset


@settings(max_examples=100, deadline=None)
@given(dataset=datasets(DLIB_NAME))
def test_what_is_written_dlib_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
) -> None:
    path = tmp_path_factory.getbasetemp() / "judge.xml"
    imglab.write(dataset, path)
    assert as_dlib_sees(path) == as_we_see(dataset)


def test_a_written_file_looks_like_imglabs(tmp_path: Path) -> None:
    image = Image("a.png", [FULL, Box(5, 6, 7, 8)], width=20, height=30)
    imglab.write(Dataset([image], name="n", comment="c"), tmp_path / "t.xml")
    assert (tmp_path / "t.xml").read_text(encoding="utf-8") == (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        "<dataset>\n<name>n</name>\n<comment>c</comment>\n<images>\n"
        "  <image file='a.png' width='20' height='30'>\n"
        "    <box top='-4' left='-3' width='14' height='25' difficult='1' truncated='1'"
        " occluded='1' ignore='1' angle='-0.1' age='33.5' gender='female' pose='2.0'"
        " detection_score='0.3333333333333333'>\n"
        "      <label>tom &amp; 'jerry' &lt;\"3&gt; \u65e5</label>\n"
        "      <part name=\"a'b\" x='1' y='-2'/>\n"
        "      <part name='00' x='0' y='7'/>\n"
        "    </box>\n"
        "    <box top='6' left='5' width='7' height='8'/>\n"
        "  </image>\n"
        "</images>\n</dataset>\n"
    )


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    imglab.write(Dataset(name="old"), tmp_path / "t.xml")
    imglab.write(Dataset(name="new"), tmp_path / "t.xml")
    assert imglab.read(tmp_path / "t.xml").name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["t.xml"]


BOX = "top='1' left='2' width='3' height='4'"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        ("<box left='2' width='3' height='4'/>", "<box> has no top"),
        ("<box top='1' width='3' height='4'/>", "<box> has no left"),
        ("<box top='1' left='2' height='4'/>", "<box> has no width"),
        ("<box top='1' left='2' width='3'/>", "<box> has no height"),
        ("<box top='a' left='2' width='3' height='4'/>", "top='a' is not a number"),
        ("<box top='' left='2' width='3' height='4'/>", "top='' is not a number"),
        ("<box top='nan' left='2' width='3' height='4'/>", "top='nan' is not a number"),
        ("<box top='-inf' left='2' width='3' height='4'/>", "top='-inf' is not a number"),
        ("<box top='1e999' left='2' width='3' height='4'/>", "top='1e999' is not a number"),
        ("<box top='0x10' left='2' width='3' height='4'/>", "top='0x10' is not a number"),
        ("<box top='1_0' left='2' width='3' height='4'/>", "top='1_0' is not a number"),
        ("<box top='\u0663' left='2' width='3' height='4'/>", "is not a number"),
        (f"<box top='{'9' * 5000}' left='2' width='3' height='4'/>", "is not a number"),
        ("<box top='2147483648' left='2' width='3' height='4'/>", "top must be from"),
        (f"<box {BOX} ignore='maybe'/>", "ignore='maybe' is neither 1 nor 0"),
        (f"<box {BOX} ignore=''/>", "ignore='' is neither 1 nor 0"),
        (f"<box {BOX} angle='left'/>", "angle='left' is not a number"),
        (f"<box {BOX} gender='robot'/>", "gender must be one of"),
        (f"<box {BOX}><label>a</label><label>b</label></box>", "more than one label"),
        (f"<box {BOX}><part x='1' y='2'/></box>", "<part> has no name"),
        (f"<box {BOX}><part name='a' y='2'/></box>", "<part> has no x"),
        (f"<box {BOX}><part name='a' x='1' y='b'/></box>", "y='b' is not a number"),
        (
            f"<box {BOX}><part name='a' x='1' y='2'/><part name='a' x='1' y='2'/></box>",
            "two parts of the box have one name",
        ),
    ],
)
def test_a_wrong_box_is_refused_with_its_line(tmp_path: Path, inner: str, told: str) -> None:
    with pytest.raises(InputError, match=f"t.xml, line 3: .*{told}") as caught:
        read_image(tmp_path, inner)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("attributes", "told"), [("", "<image> has no file"), ("file=''", "the file name is empty")]
)
def test_an_image_without_a_name_is_refused(tmp_path: Path, attributes: str, told: str) -> None:
    with pytest.raises(InputError, match=f"line 2: {told}"):
        read_image(tmp_path, "", attributes)


def test_fractions_are_rounded_and_told(tmp_path: Path) -> None:
    """The web imglab writes them, and dlib refuses them."""
    dataset = read_image(tmp_path, "<box top='12.0' left='-1.6' width='12.6' height='1e1'/>")
    assert boxes_of(dataset) == [Box(left=-2, top=12, width=13, height=10)]
    assert len(dataset.warnings) == 1
    assert dataset.warnings[0].endswith(
        "t.xml, line 3: a box with fractions of a pixel was rounded"
    )


def test_whole_numbers_written_as_fractions_are_no_news(tmp_path: Path) -> None:
    assert read_image(tmp_path, f"<box {BOX.replace('1', '1.0')}/>").warnings == ()


@pytest.mark.parametrize("side", ["width='0' height='4'", "width='3' height='-1'"])
def test_a_box_without_a_pixel_is_left_out_and_told(tmp_path: Path, side: str) -> None:
    dataset = read_image(tmp_path, f"<box top='1' left='2' {side}/>\n<box {BOX}/>")
    assert boxes_of(dataset) == [Box(2, 1, 3, 4)]
    assert len(dataset.warnings) == 1
    assert "line 3: a box without a pixel" in dataset.warnings[0]


def test_two_entries_for_a_file_become_one_and_are_told(tmp_path: Path) -> None:
    first, second = f"<box {BOX}/>", "<box top='5' left='5' width='5' height='5'/>"
    inner = f"{first}</image><image file='b.png'/>\n<image file='a.png'>{first}{second}"
    dataset = read_image(tmp_path, inner)
    assert dataset.images == (
        Image("a.png", [Box(2, 1, 3, 4), Box(5, 5, 5, 5)]),
        Image("b.png"),
    )
    assert len(dataset.warnings) == 1
    assert "line 4: 'a.png' again" in dataset.warnings[0]


def test_warnings_are_counted_beyond_the_first_hundred(tmp_path: Path) -> None:
    dataset = read_image(tmp_path, "<box top='1' left='2' width='0' height='4'/>" * 150)
    assert len(dataset.warnings) == 101
    assert dataset.warnings[-1].endswith("50 more warnings")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("true", True), ("TRUE", True), ("0", False), ("False", False), (" 1 ", True)],
)
def test_flags_are_read_as_dlib_reads_them(tmp_path: Path, text: str, expected: bool) -> None:
    dataset = read_image(tmp_path, f"<box {BOX} ignore='{text}' occluded='{text}'/>")
    assert [(box.ignore, box.occluded) for box in boxes_of(dataset)] == [(expected, expected)]


@pytest.mark.parametrize("size", ["0", "-5", "wide", "1e99", ""])
def test_a_wrong_picture_size_is_as_good_as_none(tmp_path: Path, size: str) -> None:
    dataset = read_image(tmp_path, "", f"file='a.png' width='{size}' height='5'")
    assert (dataset.images[0].width, dataset.images[0].height) == (None, None)


def test_unknown_elements_and_comments_are_passed_over(tmp_path: Path) -> None:
    inner = f"<!-- c --><tags/><box {BOX} colour='red'><label>lo<!-- c -->go</label><x/></box>"
    assert boxes_of(read_image(tmp_path, inner)) == [Box(2, 1, 3, 4, label="logo")]


def test_a_data_set_without_images_is_told(tmp_path: Path) -> None:
    dataset = read(tmp_path, "<dataset><image file='a.png'/></dataset>")
    assert dataset.images == ()
    assert "no <images>" in dataset.warnings[0]


def test_allow_outside_is_kept_for_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "t.xml"
    imglab.write(Dataset([Image("../a.png")]), path)
    (tmp_path.parent / "a.png").write_bytes(b"a")
    strict, trusting = imglab.read(path), imglab.read(str(path), allow_outside=True)
    with pytest.raises(ImageError, match="unsafe_path"):
        strict.resolve(strict.images[0])
    assert trusting.resolve(trusting.images[0]).read_bytes() == b"a"
    assert trusting.path == path


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Nothing but InputError comes out, and it says where."""
    path = tmp_path_factory.getbasetemp() / "damaged.xml"
    imglab.write(Dataset([Image("a.png", [FULL], 5, 6)]), path)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 30)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=4)) + whole[stop:])
    refusal = None
    try:
        imglab.read(path)
    except InputError as error:
        refusal = error
    assert refusal is None or (str(path) in refusal.what and refusal.remedy)
