"""A truth file at work: changes one by one, and other programs that write it meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nnst import imglab
from nnst.errors import InputError
from nnst.imglab import Box, Dataset, Image, Part, TruthFile

LOGO = Box(10, 20, 30, 40, "logo")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two pictures, one of them with all that a box can have."""
    parts = (Part("eye", 3, 4), Part("nose", -5, 6))
    rich = Box(1, 2, 3, 4, "a & b", angle=0.5, pose=2.0, age=33.0, gender="female", parts=parts)
    images = (Image("a.jpg", (LOGO, rich), 100, 80), Image("b.jpg"))
    imglab.write(Dataset(images, "name", "comment"), tmp_path / "truth.xml")
    return tmp_path / "truth.xml"


def test_a_change_is_in_the_file_and_all_else_stays(path: Path) -> None:
    truth = TruthFile.open(path)
    before = imglab.read(path)
    assert truth.change("b.jpg", Image("b.jpg", (LOGO,)), truth.version("b.jpg"))
    after = imglab.read(path)
    assert after.images == (before.images[0], Image("b.jpg", (LOGO,)))
    assert (after.name, after.comment) == ("name", "comment")


def test_a_file_begins_with_its_first_change(tmp_path: Path) -> None:
    truth = TruthFile.open(tmp_path / "new" / "truth.xml")
    assert not truth.path.exists()
    assert truth.change("a.jpg", Image("a.jpg", (LOGO,)), "none")
    assert imglab.read(truth.path).images == (Image("a.jpg", (LOGO,)),)


def test_an_entry_can_be_taken_out(path: Path) -> None:
    truth = TruthFile.open(path)
    assert truth.change("a.jpg", None, truth.version("a.jpg"))
    assert [image.file for image in imglab.read(path).images] == ["b.jpg"]
    assert truth.version("a.jpg") == "none"


def test_what_another_program_wrote_beside_ours_is_kept(path: Path) -> None:
    truth, other = TruthFile.open(path), TruthFile.open(path)
    assert other.change("c.jpg", Image("c.jpg", (LOGO,)), "none")
    assert truth.change("b.jpg", Image("b.jpg", (LOGO,)), truth.version("b.jpg"))
    assert [len(image.boxes) for image in imglab.read(path).images] == [2, 1, 1]


def test_a_change_of_what_another_program_changed_is_refused(path: Path) -> None:
    truth, other = TruthFile.open(path), TruthFile.open(path)
    base = truth.version("b.jpg")
    assert other.change("b.jpg", Image("b.jpg", (LOGO,)), base)
    written = path.read_bytes()
    assert not truth.change("b.jpg", Image("b.jpg"), base)
    assert path.read_bytes() == written
    assert truth.entry("b.jpg") == Image("b.jpg", (LOGO,))


def test_a_writer_in_place_is_noticed_whatever_the_clock_says(path: Path) -> None:
    """imglab writes into the file; size and time of change may stay what they were."""
    truth, old = TruthFile.open(path), path.stat()
    data = path.read_bytes().replace(b"left='10'", b"left='11'")
    with path.open("r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    assert truth.refresh()
    assert truth.entry("a.jpg").boxes[0].left == 11
    assert not truth.refresh()


@pytest.mark.parametrize("content", [b"<dataset><images><image file='a.j", b"", None])
def test_a_file_that_cannot_be_read_now_is_never_overwritten(
    path: Path, content: bytes | None
) -> None:
    truth, base = TruthFile.open(path), TruthFile.open(path).version("b.jpg")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError):
        truth.change("b.jpg", Image("b.jpg", (LOGO,)), base)
    assert (path.read_bytes() if path.exists() else None) == content


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each with a file object of its own, as two servers have."""
    path = tmp_path / "truth.xml"

    def draw(side: int) -> None:
        truth = TruthFile.open(path)
        for number in range(6):
            assert truth.change(f"{side}-{number}", Image(f"{side}-{number}", (LOGO,)), "none")

    threads = [threading.Thread(target=draw, args=(side,)) for side in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(imglab.read(path).images) == 18
