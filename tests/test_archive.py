"""Archives of every kind: each member once, in a fixed order, whatever is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import os
import random
import re
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnst import archive, ledger, records
from nnst.archive import members, tar, tar_headers
from nnst.errors import ImageError, InputError
from nnst.records import REASONS, Receipt

Files = dict[str, bytes]

SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(seed: int) -> bytes:
    """A small PNG that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def pictures(count: int) -> Files:
    return {f"a/{index:03d}.png": picture(index) for index in range(count)}


def tar_bytes(files: Files, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive_:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive_.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive_:
        for name, data in files.items():
            archive_.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def parquet_bytes(columns: dict[str, object], rows: int = 7) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=rows)
    return buffer.getvalue()


def write(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def as_folder(files: Files) -> Files:
    return files


def as_tar(files: Files) -> Files:
    return {"x.tar": tar_bytes(files)}


def as_gzipped_tar(files: Files) -> Files:
    return {"x.tgz": tar_bytes(files, "w:gz")}


def as_zip(files: Files) -> Files:
    return {"x.zip": zip_bytes(files)}


def as_parquet(files: Files) -> Files:
    return {"x.parquet": parquet_bytes({"key": list(files), "jpg": list(files.values())})}


KINDS = [as_folder, as_tar, as_gzipped_tar, as_zip, as_parquet]
PACKED = KINDS[1:]


def make(folder: Path, pack: Callable[[Files], Files], files: Files) -> str:
    """The path of an archive of these files: the one packed file, or the folder."""
    packed = pack(files)
    write(folder, packed)
    return str(folder if pack is as_folder else folder / next(iter(packed)))


def contents(source: str, plan: archive.ArchivePlan) -> dict[str, object]:
    """Image -> its bytes, or the reason why there are none; checked to be one row each."""
    found = list(archive.stream(source, plan.inputs))
    assert [member.image for member in found] == plan.inputs["image"].to_pylist()
    assert len({member.image for member in found}) == len(found)
    assert all((member.data is None) == (member.failure is not None) for member in found)
    return {
        member.image: member.failure.reason if member.failure else member.data for member in found
    }


def reasons(source: Path | str) -> dict[str, str | None]:
    """Image -> reason in the plan."""
    inputs = archive.plan(str(source)).inputs
    return dict(zip(inputs["image"].to_pylist(), inputs["reason"].to_pylist(), strict=True))


def refusal(source: Path | str) -> str:
    """The one line that says why the source is no archive."""
    with pytest.raises(InputError) as caught:
        archive.plan(str(source))
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


class TestEveryKind:
    @pytest.mark.parametrize("pack", KINDS)
    @pytest.mark.parametrize("shard_images", [1, 4, 64])
    def test_each_member_comes_once_in_order_whatever_the_shards(
        self, tmp_path: Path, pack: Callable[[Files], Files], shard_images: int
    ) -> None:
        """All shards together give the pictures in their order."""
        files = pictures(18)
        source = make(tmp_path, pack, files)
        inputs = archive.plan(source, shard_images).inputs
        assert inputs.schema == records.INPUTS
        shards = inputs["shard"].to_pylist()
        assert shards == sorted(shards)
        assert set(shards) == set(range(shards[-1] + 1))
        found: dict[str, object] = {}
        for shard in sorted(set(shards)):
            rows = inputs.filter(pc.equal(inputs["shard"], shard))
            found.update({member.image: member.data for member in archive.stream(source, rows)})
        assert list(found.items()) == list(files.items())

    @pytest.mark.parametrize("pack", KINDS)
    def test_two_plans_are_identical(self, tmp_path: Path, pack: Callable[[Files], Files]) -> None:
        """The same archive gives the same table."""
        source = make(tmp_path, pack, pictures(5))
        assert archive.plan(source).inputs.equals(archive.plan(source).inputs)

    @pytest.mark.parametrize("pack", KINDS)
    def test_rows_may_be_asked_for_in_any_order(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """Going back in a container, even a gzipped one, gives the right bytes."""
        files = pictures(18)
        source = make(tmp_path, pack, files)
        inputs = archive.plan(source).inputs
        order = list(range(18))
        random.Random(1).shuffle(order)
        found = [member.data for member in archive.stream(source, inputs.take(order))]
        assert found == [list(files.values())[index] for index in order]

    @pytest.mark.parametrize("pack", KINDS)
    def test_one_picture_is_read_by_its_name(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """The report and explain fetch single pictures."""
        source = make(tmp_path, pack, pictures(5))
        inputs = archive.plan(source).inputs
        assert archive.read_member(source, inputs, "a/003.png") == picture(3)
        with pytest.raises(ImageError, match="not in the plan"):
            archive.read_member(source, inputs, "a/999.png")

    @pytest.mark.parametrize("pack", KINDS)
    def test_a_remote_archive_is_like_a_local_one(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """fsspec's memory store stands for s3 and the rest."""
        files = pictures(5)
        store = fsspec.filesystem("memory")
        root = f"/{tmp_path.name}"
        packed = pack(files | {"a/notes.txt": b"", "a/unnamed": picture(9)})
        for name, data in packed.items():
            store.pipe_file(f"{root}/{name}", data)
        source = f"memory:/{root}" + ("" if pack is as_folder else f"/{next(iter(packed))}")
        found = contents(source, archive.plan(source))
        assert {name: found[name] for name in files} == files
        assert found["a/unnamed"] == picture(9)
        store.rm(root, recursive=True)

    @pytest.mark.parametrize("pack", [*KINDS[:4]])
    def test_what_is_no_picture_by_name_or_magic_is_counted_as_skipped(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """A picture without a suffix is found, one that is none by its bytes alone is a member."""
        files = {
            "broken.JPG": b"<html>",
            "doc.html": b"<!doctype html>",
            "empty.png": b"",
            "label.txt": b"1",
            "nested.zip": zip_bytes({"a.png": picture(0)}),
            "noted.heic": b"anything",
            "readme": b"words",
            "unnamed": picture(1),
            "x.a*b": b"",
        }
        source = make(tmp_path, pack, files)
        plan = archive.plan(source)
        named = ("broken.JPG", "empty.png", "noted.heic", "unnamed")
        assert contents(source, plan) == {name: files[name] for name in named}
        assert plan.skipped == {".html": 1, ".txt": 1, ".zip": 1, "no suffix": 1, "other": 1}

    @pytest.mark.parametrize("pack", KINDS[:4])
    def test_hidden_files_are_left_out(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """Neither dotfiles, nor what lies in a hidden folder, nor a Mac's ._ twins."""
        hidden = {".a.png": picture(1), ".b/c.png": picture(2), "__MACOSX/._d.png": picture(3)}
        source = make(tmp_path, pack, {"a.png": picture(0), **hidden})
        assert reasons(source) == {"a.png": None}

    @pytest.mark.parametrize("pack", PACKED)
    def test_a_container_that_is_gone_or_another_one_fails_each_row(
        self, tmp_path: Path, pack: Callable[[Files], Files]
    ) -> None:
        """No row is lost, and no bytes of another picture come under a planned name."""
        source = make(tmp_path, pack, pictures(6))
        plan = archive.plan(source)
        other = {f"b/{index:03d}.png": picture(index)[:-1] + b"?" for index in range(40, 46)}
        make(tmp_path, pack, other)
        assert set(contents(source, plan).values()) <= {"unreadable", "corrupt", "truncated"}
        Path(source).write_bytes(b"")
        assert set(contents(source, plan).values()) <= {"unreadable", "corrupt", "truncated"}
        Path(source).unlink()
        assert set(contents(source, plan).values()) == {"missing"}

    @pytest.mark.parametrize("pack", KINDS)
    def test_nothing_is_written(
        self, tmp_path: Path, pack: Callable[[Files], Files], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The tree around the archive, and the working directory, are as they were."""
        inside = tmp_path / "data" / "in"
        source = make(inside, pack, {"a.png": picture(0), "c/d.png": picture(1)})
        if pack is as_tar:
            evil = {"../../evil.png": picture(2), str(tmp_path / "evil.png"): picture(3)}
            Path(source).write_bytes(tar_bytes(evil | {"ok.png": picture(4)}))
        monkeypatch.chdir(tmp_path / "data")
        before = sorted(tmp_path.rglob("*"))
        contents(source, archive.plan(source))
        assert sorted(tmp_path.rglob("*")) == before

    @SETTINGS
    @given(seed=st.integers(0, 2**32 - 1), pack=st.sampled_from(PACKED), cut=st.booleans())
    def test_damaged_bytes_give_rows_or_one_line(
        self, tmp_path: Path, seed: int, pack: Callable[[Files], Files], cut: bool
    ) -> None:
        """Cut or overwritten at any place: InputError, or a plan that streams a row each."""
        chance = random.Random(seed)
        source = make(tmp_path, pack, pictures(6))
        good = archive.plan(source)
        data = bytearray(Path(source).read_bytes())
        if cut:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(chance.choice([1, 3, 30])):
                data[chance.randrange(len(data))] = chance.randrange(256)
        Path(source).write_bytes(data)
        contents(source, good)
        with contextlib.suppress(InputError):
            contents(source, archive.plan(source))


class TestNames:
    @SETTINGS
    @given(
        names=st.lists(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=300), min_size=1, max_size=8
        ),
        pack=st.sampled_from([as_tar, as_gzipped_tar, as_zip]),
    )
    def test_any_name_is_a_row_or_counted(
        self, tmp_path: Path, names: list[str], pack: Callable[[Files], Files]
    ) -> None:
        """Any text as a name: as many rows and skipped as members, unique, and showable."""
        files = {name: picture(index) for index, name in enumerate(names)}
        files = {name: data for name, data in files.items() if not name.endswith("/")}
        source = make(tmp_path, pack, {"first.png": picture(100), **files})
        plan = archive.plan(source)
        found = contents(source, plan)
        assert len(found) + sum(plan.skipped.values()) == len(files) + 1
        assert set(plan.skipped) <= {"hidden"}
        assert not any(re.search("[\x00-\x1f\x7f\ud800-\udfff]", name) for name in found)
        good = [data for data in found.values() if isinstance(data, bytes)]
        assert set(good) <= {picture(100), *files.values()}
        for name, data in files.items():
            if re.fullmatch(r"[\w ]+(/[\w ]+)*", name):
                assert found[name] == data

    @SETTINGS
    @given(st.lists(st.sampled_from(["a", "a#2", "a#3", "b", "a\n", "a\\x0a"]), max_size=12))
    def test_numbered_names_are_unique_and_the_first_keeps_its_own(self, names: list[str]) -> None:
        """A number never takes the name of another member, also of a later one."""
        rows = [members.Row(name, "", index, 0, "") for index, name in enumerate(names)]
        images = [row.image for row in members.numbered(rows, "duplicate")]
        assert len(set(images)) == len(names)
        shown = [members.showable(name) for name in names]
        for index, name in enumerate(shown):
            if name not in shown[:index]:
                assert images[index] == name
            else:
                assert re.fullmatch(re.escape(name) + r"#\d+", images[index])

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    @pytest.mark.parametrize("pack", ["tar", "zip"])
    def test_second_members_of_a_name_are_refused(self, tmp_path: Path, pack: str) -> None:
        """The first is used, the others are rows of their own."""
        path = tmp_path / f"x.{pack}"
        names = ["d.png", "./d.png", "d.png#2", "d.png"]
        if pack == "tar":
            with tarfile.open(path, "w") as tar_:
                for index, name in enumerate(names):
                    info = tarfile.TarInfo(name)
                    info.size = len(picture(index))
                    tar_.addfile(info, io.BytesIO(picture(index)))
        else:
            with zipfile.ZipFile(path, "w") as zip_:
                for index, name in enumerate(names):
                    zip_.writestr(name, picture(index))
        assert contents(str(path), archive.plan(str(path))) == {
            "d.png": picture(0),
            "d.png#3": "duplicate",
            "d.png#2": picture(2),
            "d.png#4": "duplicate",
        }

    def test_a_file_name_that_is_not_utf8_is_shown_escaped_and_read(self, tmp_path: Path) -> None:
        """Old disks hold names in Latin-1; line breaks are legal too."""
        name = os.fsencode(tmp_path) + b"/caf\xe9\n1.png"
        with open(name, "wb") as stream:
            stream.write(picture(1))
        found = contents(str(tmp_path), archive.plan(str(tmp_path)))
        assert found == {"caf\\xe9\\x0a1.png": picture(1)}

    @pytest.mark.parametrize(
        "name",
        [
            "/abs.png",
            "../up.png",
            "a/../../up.png",
            "a\\..\\up.png",
            "\\\\host\\a.png",
            "C:a.png",
            ".",
        ],
    )
    @pytest.mark.parametrize("pack", [as_tar, as_zip])
    def test_names_that_leave_the_folder_are_not_opened(
        self, tmp_path: Path, name: str, pack: Callable[[Files], Files]
    ) -> None:
        """The name is never used as a path; the member is refused all the same."""
        source = make(tmp_path, pack, {name: picture(0), "ok/./b.png": picture(1)})
        found = contents(source, archive.plan(source))
        assert found == {name: "unsafe_path", "ok/b.png": picture(1)}


class TestFolder:
    def test_links_and_special_files_are_not_followed(self, tmp_path: Path) -> None:
        """A link that has a picture's name is a row; others are counted."""
        outside = tmp_path / "outside.png"
        outside.write_bytes(picture(0))
        folder = write(tmp_path / "in", {"a.png": picture(1)})
        (folder / "b.png").symlink_to(outside)
        (folder / "c").symlink_to(tmp_path)
        (folder / "d.png").symlink_to("nowhere")
        os.mkfifo(folder / "e.png")
        plan = archive.plan(str(folder))
        expected = {
            "a.png": picture(1),
            "b.png": "link",
            "d.png": "link",
            "e.png": "special_file",
        }
        assert contents(str(folder), plan) == expected
        assert plan.skipped == {"link": 1}

    def test_files_that_change_after_planning_become_rows(self, tmp_path: Path) -> None:
        """Vanished, shrunk, grown, or turned into a folder: each has its reason."""
        files = {f"{index}.png": picture(index) for index in range(5)}
        source = str(write(tmp_path, files))
        plan = archive.plan(source)
        (tmp_path / "0.png").unlink()
        (tmp_path / "1.png").write_bytes(picture(1)[:-1])
        (tmp_path / "2.png").write_bytes(picture(2) + b"?")
        (tmp_path / "3.png").unlink()
        (tmp_path / "3.png").mkdir()
        assert list(contents(source, plan).values()) == [
            "missing",
            "truncated",
            "unreadable",
            "unreadable",
            picture(4),
        ]

    def test_a_file_beyond_the_limit_is_not_read(self, tmp_path: Path) -> None:
        """Its size is known at planning."""
        write(tmp_path, {"a.png": picture(0), "huge.png": b""})
        os.truncate(tmp_path / "huge.png", members.MAX_BYTES + 1)
        found = contents(str(tmp_path), archive.plan(str(tmp_path)))
        assert found == {"a.png": picture(0), "huge.png": "too_many_bytes"}

    def test_a_folder_of_tars_is_one_archive(self, tmp_path: Path) -> None:
        """Each shard's members have its name before theirs; sidecars are counted."""
        shards = {
            "00/a.tar": tar_bytes(pictures(3)),
            "01/b.tgz": tar_bytes(pictures(2), "w:gz"),
            "b_stats.json": b"{}",
        }
        plan = archive.plan(str(write(tmp_path, shards)))
        found = contents(str(tmp_path), plan)
        assert list(found) == [
            *(f"00/a.tar/{name}" for name in pictures(3)),
            *(f"01/b.tgz/{name}" for name in pictures(2)),
        ]
        assert list(found.values()) == [*pictures(3).values(), *pictures(2).values()]
        assert plan.skipped == {".json": 1}

    def test_tars_beside_pictures_are_not_opened(self, tmp_path: Path) -> None:
        """Only a folder without pictures of its own is a set of shards."""
        write(tmp_path, {"a.png": picture(0), "b.tar": tar_bytes(pictures(3))})
        plan = archive.plan(str(tmp_path))
        assert plan.inputs["image"].to_pylist() == ["a.png"]
        assert plan.skipped == {".tar": 1}

    def test_a_tar_that_is_none_costs_one_row_of_the_set(self, tmp_path: Path) -> None:
        """One failed download does not stop a thousand shards."""
        write(tmp_path, {"a.tar": tar_bytes(pictures(2)), "b.tar": b"<html>404" * 99})
        assert list(reasons(tmp_path).items())[-1] == ("b.tar", "corrupt")
        assert len(reasons(tmp_path)) == 3

    def test_a_name_that_fsspec_would_chain_is_refused(self) -> None:
        """`a::file:///etc/passwd` in a store must not open another file."""
        store = fsspec.filesystem("memory")
        store.pipe_file("/chain/a.png", picture(0))
        store.pipe_file("/chain/x::file:/etc/b.png", b"")
        assert reasons("memory://chain") == {
            "a.png": None,
            "x::file:/etc/b.png": "unsafe_path",
        }
        store.rm("/chain", recursive=True)


class TestTar:
    @SETTINGS
    @given(
        names=st.lists(
            st.text("abcé/.", max_size=260).map(lambda text: f"x{text}x"),
            max_size=6,
        ),
        form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
        sizes=st.lists(st.integers(0, 1500), min_size=6, max_size=6),
    )
    def test_the_header_walk_finds_what_tarfile_finds(
        self, names: list[str], form: int, sizes: list[int]
    ) -> None:
        """Names, sizes and offsets are those of the standard library, long names included."""
        files = {name: bytes(size) for name, size in zip(names, sizes, strict=False)}
        data = tar_bytes(files, form=form)
        with tarfile.open(fileobj=io.BytesIO(data)) as twin:
            expected = [(info.name, info.size, info.offset_data) for info in twin]
        found = [
            (header.name.rstrip("/"), header.bytes, header.offset)
            for header in tar_headers.read(io.BytesIO(data))
        ]
        assert found == expected

    @SETTINGS
    @given(st.data())
    def test_a_cut_tar_keeps_what_is_whole(self, tmp_path: Path, data: st.DataObject) -> None:
        """Members before the cut are right, the one it hits is truncated, and the rest is a row."""
        files = pictures(5)
        whole = tar_bytes(files)
        path = tmp_path / "cut.tar"
        path.write_bytes(whole)
        inputs = archive.plan(str(path)).inputs
        ends = pc.add(inputs["offset"], inputs["bytes"]).to_pylist()
        first = inputs["offset"].to_pylist()[0]
        cut = data.draw(st.integers(first, ends[-1] - 1))
        path.write_bytes(whole[:cut])
        found = contents(str(path), archive.plan(str(path)))
        kept = sum(end <= cut for end in ends)
        assert list(found.values())[:kept] == list(files.values())[:kept]
        at_boundary = cut in [(end + 511) // 512 * 512 for end in ends]
        between = any(end <= cut < (end + 511) // 512 * 512 for end in ends)
        if not at_boundary and not between:
            assert found["cut.tar"] == "truncated"

    def test_a_cut_tar_that_was_gzipped_whole_is_seen(self, tmp_path: Path) -> None:
        """The gzip stream is sound; what it holds ends inside a member."""
        path = tmp_path / "x.tgz"
        path.write_bytes(gzip.compress(tar_bytes(pictures(3))[: 2 * 1024 + 600]))
        assert contents(str(path), archive.plan(str(path))) == {
            "a/000.png": picture(0),
            "a/001.png": picture(1),
            "a/002.png": "truncated",
            "x.tgz": "truncated",
        }

    def test_names_that_are_not_utf8_are_shown_escaped(self, tmp_path: Path) -> None:
        """Tars of old systems hold names in Latin-1."""
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar_:
            info = tarfile.TarInfo("café.png")
            info.size = len(picture(0))
            tar_.addfile(info, io.BytesIO(picture(0)))
        assert contents(str(path), archive.plan(str(path))) == {"caf\\xe9.png": picture(0)}

    def test_a_damaged_header_in_the_middle_is_a_row(self, tmp_path: Path) -> None:
        """Other readers end there without a word."""
        whole = bytearray(tar_bytes(pictures(5), form=tarfile.USTAR_FORMAT))
        path = tmp_path / "x.tar"
        path.write_bytes(whole)
        third = archive.plan(str(path)).inputs["offset"][2].as_py() - 512
        whole[third + 3] ^= 1
        path.write_bytes(whole)
        assert list(contents(str(path), archive.plan(str(path))).items()) == [
            ("a/000.png", picture(0)),
            ("a/001.png", picture(1)),
            ("x.tar", "corrupt"),
        ]

    def test_a_negative_size_does_not_walk_in_circles(self, tmp_path: Path) -> None:
        """CVE-2025-8194: tarfile before 3.11.14 never ends."""
        path = tmp_path / "x.tar"
        path.write_bytes(tar_bytes({"a.png": picture(0)})[:1024] + _raw_header("b.png", -1024))
        assert list(reasons(path).items()) == [("a.png", None), ("x.tar", "corrupt")]

    def test_a_claimed_size_is_not_allocated(self, tmp_path: Path) -> None:
        """A member and a long name of 8 GiB each, in a tar of 2 KiB."""
        good = tar_bytes({"a.png": picture(0)})[:1024]
        for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            path = tmp_path / "x.tar"
            path.write_bytes(good + _raw_header("b.png", 8 << 30, kind) + bytes(512))
            tracemalloc.start()
            plan = archive.plan(str(path))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 4 << 20
            assert plan.inputs["reason"].to_pylist()[-1] in ("truncated", "corrupt")
            assert plan.inputs["image"].to_pylist()[0] == "a.png"

    def test_links_and_devices_are_not_read(self, tmp_path: Path) -> None:
        """Rows where they have a picture's name."""
        kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w") as tar_:
            for kind in [*kinds, tarfile.FIFOTYPE, tarfile.DIRTYPE]:
                info = tarfile.TarInfo(f"{kind.decode()}.png")
                info.type, info.linkname = kind, "/etc/passwd"
                tar_.addfile(info)
        assert list(contents(str(path), archive.plan(str(path))).values()) == [
            "link",
            "link",
            "special_file",
            "special_file",
            "special_file",
        ]

    def test_a_sparse_member_is_refused_and_the_next_one_found(self, tmp_path: Path) -> None:
        """What is stored of it is not what the file was."""
        header = bytearray(_raw_header("s.png", 512, tarfile.GNUTYPE_SPARSE))
        header[482] = 1  # a block of the map follows
        _sign(header)
        path = tmp_path / "x.tar"
        data = bytes(header) + bytes(512) + b"x" * 512
        path.write_bytes(data + tar_bytes({"a.png": picture(0)}))
        found = contents(str(path), archive.plan(str(path)))
        assert found == {"s.png": "unreadable", "a.png": picture(0)}

    def test_a_gzipped_tar_is_cut_into_few_shards(self, tmp_path: Path) -> None:
        """Each shard reads all that lies before it, so there are 16 at most."""
        source = make(tmp_path, as_gzipped_tar, pictures(100))
        assert archive.plan(source, 1).inputs["shard"].to_pylist()[-1] < 16
        assert archive.plan(source, 64).inputs["shard"].to_pylist() == [0] * 64 + [1] * 36

    def test_a_gzip_bomb_is_not_inflated_into_memory(self, tmp_path: Path) -> None:
        """80 MB of zeros in a tar of 80 kB: too many bytes for one member."""
        path = tmp_path / "x.tgz"
        path.write_bytes(tar_bytes({"b.bmp": bytes(80_000_000), "a.png": picture(0)}, "w:gz"))
        tracemalloc.start()
        found = contents(str(path), archive.plan(str(path)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == {"b.bmp": "too_many_bytes", "a.png": picture(0)}
        assert peak < 4 << 20

    def test_a_tar_that_inflates_without_end_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond 200:1 and a free allowance the rest is one row."""
        monkeypatch.setattr(tar, "_FREE_INFLATION", 1 << 20)
        files = {f"{index}.txt": bytes(500_000) for index in range(9)}
        path = tmp_path / "x.tgz"
        path.write_bytes(tar_bytes({"a.png": picture(0), **files, "b.png": picture(1)}, "w:gz"))
        found = contents(str(path), archive.plan(str(path)))
        assert found == {"a.png": picture(0), "x.tgz": "too_compressed"}


def _raw_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A GNU tar header with any size, also a negative one."""
    header = bytearray(512)
    header[: len(name)] = name.encode()
    header[124:136] = (size % (1 << 96)).to_bytes(12, "big")
    header[124] |= 0x80 if size >= 0 else 0xFF
    header[156:157] = kind
    header[257:265] = b"ustar  \0"
    return bytes(_sign(header))


def _sign(header: bytearray) -> bytearray:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return header


class TestZip:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_stored_and_deflated_members_of_any_size_are_read(
        self, tmp_path: Path, method: int
    ) -> None:
        """Also larger than one read, and very well packed."""
        noise = np.random.default_rng(0).bytes(300_000)
        files = {"a.png": b"", "b.png": b"x", "c.png": noise, "d.png": bytes(900_000)}
        path = tmp_path / "x.zip"
        path.write_bytes(zip_bytes(files, method))
        assert contents(str(path), archive.plan(str(path))) == files

    def test_a_zip_written_as_a_stream_is_read(self, tmp_path: Path) -> None:
        """Its local headers hold no sizes: the directory's count."""

        class Pipe(io.RawIOBase):
            data = b""

            def writable(self) -> bool:
                return True

            def write(self, data: bytes) -> int:  # type: ignore[override]
                self.data += bytes(data)
                return len(data)

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as zip_:
            for name, data in pictures(3).items():
                zip_.writestr(name, data)
        path = tmp_path / "x.zip"
        path.write_bytes(pipe.data)
        assert contents(str(path), archive.plan(str(path))) == pictures(3)

    def test_encrypted_members_are_rows(self, tmp_path: Path) -> None:
        """The flag in the directory says so."""
        data = bytearray(zip_bytes({"a.png": picture(0), "b.png": picture(1)}))
        entry = data.index(b"PK\x01\x02")
        data[entry + 8] |= 1
        path = tmp_path / "x.zip"
        path.write_bytes(data)
        found = contents(str(path), archive.plan(str(path)))
        assert found == {"a.png": "encrypted", "b.png": picture(1)}

    def test_a_member_that_inflates_beyond_its_stated_size_is_cut_off(self, tmp_path: Path) -> None:
        """A directory that lies about the size does not get more memory than it said."""
        data = bytearray(zip_bytes({"a.png": bytes(50_000_000)}))
        entry = data.index(b"PK\x01\x02")
        struct.pack_into("<I", data, entry + 24, 1000)
        path = tmp_path / "x.zip"
        path.write_bytes(data)
        tracemalloc.start()
        found = contents(str(path), archive.plan(str(path)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == {"a.png": "too_compressed"}
        assert peak < 4 << 20

    def test_a_member_packed_beyond_the_ratio_is_a_row(self, tmp_path: Path) -> None:
        """1,000:1 is refused at planning; a small flat drawing is not."""
        path = tmp_path / "x.zip"
        path.write_bytes(zip_bytes({"a.bmp": bytes(9_000_000), "b.bmp": bytes(900_000)}))
        assert reasons(path) == {"a.bmp": "too_compressed", "b.bmp": None}

    def test_overlapping_members_are_refused(self, tmp_path: Path) -> None:
        """Two entries of the directory for one piece of data: how small bombs grow large."""
        data = bytearray(zip_bytes({f"{index}.png": picture(0) for index in range(9)}))
        entry = data.index(b"PK\x01\x02")
        packed = len(data)
        struct.pack_into("<I", data, entry + 20, packed)
        path = tmp_path / "x.zip"
        path.write_bytes(data)
        assert "overlap" in refusal_of_name(path)


def refusal_of_name(path: Path) -> str:
    """Like `refusal`, where the message gives the file's name without its folder."""
    with pytest.raises(InputError) as caught:
        archive.plan(str(path))
    assert path.name in str(caught.value)
    return str(caught.value)


class TestParquet:
    def test_hugging_face_structs_are_read(self, tmp_path: Path) -> None:
        """Names come from the struct's path; rows without one, or of one name, are numbered."""
        rows = [
            {"bytes": picture(0), "path": "a.png"},
            {"bytes": picture(1), "path": None},
            {"bytes": None, "path": "c.png"},
            {"bytes": picture(3), "path": "a.png"},
            None,
        ]
        path = tmp_path / "x.parquet"
        path.write_bytes(parquet_bytes({"label": [0] * 5, "image": rows}, rows=2))
        assert contents(str(path), archive.plan(str(path))) == {
            "a.png": picture(0),
            "x.parquet#1": picture(1),
            "c.png": "missing",
            "a.png#2": picture(3),
            "x.parquet#4": "missing",
        }

    @pytest.mark.parametrize("column", ["bytes", "image", "jpg", "data", "content"])
    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
    def test_binary_columns_of_the_usual_names_are_read(
        self, tmp_path: Path, column: str, kind: pa.DataType
    ) -> None:
        """Numbers are names too."""
        path = tmp_path / "x.parquet"
        data = pa.array([picture(0), picture(1)], kind)
        path.write_bytes(parquet_bytes({"id": [7, 8], column: data}))
        found = contents(str(path), archive.plan(str(path)))
        assert found == {"7": picture(0), "8": picture(1)}

    def test_a_folder_of_parquet_files_is_one_archive(self, tmp_path: Path) -> None:
        """As data sets are published; each file's name is before those of its rows."""
        for name in ("train-0.parquet", "train-1.parquet"):
            (tmp_path / name).write_bytes(parquet_bytes({"bytes": [picture(0), picture(1)]}))
        (tmp_path / "README.md").write_text("words")
        plan = archive.plan(str(tmp_path))
        found = contents(str(tmp_path), plan)
        assert list(found) == [f"train-{file}.parquet#{row}" for file in (0, 1) for row in (0, 1)]
        assert list(found.values()) == [picture(0), picture(1)] * 2
        assert plan.skipped == {".md": 1}

    @pytest.mark.parametrize(
        ("counts", "shards"),
        [
            ([70, 70], [0] * 64 + [1] * 6 + [2] * 64 + [3] * 6),  # a container begins a shard
            ([30, 30, 30], [0] * 60 + [1] * 30),  # unless it fits into what is left of one
            ([0, 64, 0, 1], [0] * 64 + [1]),  # an empty one takes no shard
        ],
    )
    def test_small_containers_share_a_shard(self, counts: list[int], shards: list[int]) -> None:
        """A shard opens as few containers as it can."""
        row = members.Row("a.png", "", 0, 0, "")
        stretches = [members.Stretch([row] * count) for count in counts]
        assert members.shard_numbers(stretches, 64) == shards

    def test_large_row_groups_are_cut_and_small_ones_share_a_shard(self, tmp_path: Path) -> None:
        """A row group is read from its start by each of its shards, so there are 16 at most."""
        rows = [b"x"] * 200
        path = tmp_path / "x.parquet"
        path.write_bytes(parquet_bytes({"bytes": rows}, rows=200))
        assert archive.plan(str(path), 2).inputs["shard"].to_pylist()[-1] == 15
        path.write_bytes(parquet_bytes({"bytes": rows}, rows=10))
        assert archive.plan(str(path), 64).inputs["shard"].to_pylist()[-1] == 3

    def test_a_file_without_pictures_is_refused(self, tmp_path: Path) -> None:
        """The columns it has are named."""
        path = tmp_path / "x.parquet"
        path.write_bytes(parquet_bytes({"speed": [1.0]}))
        assert "speed" in refusal_of_name(path)


class TestLedger:
    def make(self, out: Path, verb: str, finish: bool = True) -> str:
        """An output folder with the pictures of two shards, one of them unusable."""
        inputs = members.to_table(
            [members.Row(f"{index}.png", "", -1, 0, "") for index in range(3)], [0, 0, 1]
        )
        job = ledger.Job(verb, inputs, {}, source="/where/it/was")
        book = ledger.Ledger.create(str(out), job)
        shards: list[list[int | None]] = [[0, None], [2]]
        for shard, seeds in enumerate(shards):
            parts = (ledger.write_part(str(out), "pictures", shard, self.rows(shard, seeds)),)
            bad = sum(seed is None for seed in seeds)
            receipt = Receipt(
                shard, len(seeds), len(seeds) - bad, bad, parts, book.fingerprint,
                {"corrupt": bad} if bad else {},
            )  # fmt: skip
            book.commit(receipt)
        if finish:
            book.succeed()
        return str(out)

    def rows(self, shard: int, seeds: list[int | None]) -> pa.Table:
        blank: dict[str, object] = {"boxes": [], "labels": [], "ignore": [], "difficult": []}
        return pa.Table.from_pylist(
            [
                {
                    "image": f"{2 * shard + index}.png",
                    "status": "corrupt" if seed is None else "ok",
                    "bytes": None if seed is None else picture(seed),
                    **blank,
                }
                for index, seed in enumerate(seeds)
            ],
            schema=records.PICTURES,
        )

    def test_pictures_of_a_crop_set_are_an_archive(self, tmp_path: Path) -> None:
        """Under the names they had, with the reasons they had."""
        source = self.make(tmp_path / "crops", "crop")
        found = contents(source, archive.plan(source))
        assert found == {"0.png": picture(0), "1.png": "corrupt", "2.png": picture(2)}

    def test_a_scan_is_refused_and_its_source_named(self, tmp_path: Path) -> None:
        """A scan holds no bytes."""
        assert "/where/it/was" in refusal(self.make(tmp_path / "scan", "scan"))

    def test_an_unfinished_folder_is_refused(self, tmp_path: Path) -> None:
        """Half of a crop set is not a crop set."""
        assert "not finished" in refusal(self.make(tmp_path / "crops", "crop", finish=False))


class TestRefusals:
    def test_a_single_picture_is_an_archive_of_one(self, tmp_path: Path) -> None:
        """By its name or by its bytes."""
        for name in ("a.png", "unnamed"):
            path = tmp_path / name
            path.write_bytes(picture(0))
            assert contents(str(path), archive.plan(str(path))) == {name: picture(0)}

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [
            ("empty.tar", b"", "is empty"),
            ("no.tar", b"words " * 200, "no archive"),
            ("no.zip", b"PK\x03\x04" + bytes(50), "directory of the zip"),
            ("no.parquet", b"PAR1" + bytes(50), "Parquet"),
            ("a.jpg.gz", b"\x1f\x8b\x08" + bytes(50), "tar"),
            ("a.7z", b"7z\xbc\xaf\x27\x1c", "no archive"),
            ("words.txt", b"words", "no archive"),
            ("nothing.tar", bytes(10240), "no picture"),
            ("text.zip", zip_bytes({"a.txt": b"1"}), "skipped: 1 .txt"),
        ],
    )
    def test_what_is_no_archive_is_said_in_one_line(
        self, tmp_path: Path, name: str, data: bytes, said: str
    ) -> None:
        """What, where and what to do."""
        (tmp_path / name).write_bytes(data)
        assert said in refusal_of_name(tmp_path / name)

    def test_a_path_that_is_not_there_and_an_empty_folder_are_refused(self, tmp_path: Path) -> None:
        """Also remote ones."""
        assert "no file or folder" in refusal(tmp_path / "nowhere")
        assert "no file or folder" in refusal("memory://nowhere/at/all")
        assert "no picture" in refusal(tmp_path)
        with pytest.raises(InputError, match="shards of 0"):
            archive.plan(str(tmp_path), 0)


class TestRealFiles:
    """../shared/data: archives of others, and hostile ones."""

    def test_web_dataset_archives_are_read(self, shared_data: Path) -> None:
        """Each kind of member is accounted for."""
        source = str(shared_data / "archives" / "sample.tgz")
        plan = archive.plan(source)
        with tarfile.open(source) as twin:
            expected = {
                info.name: twin.extractfile(info).read()  # type: ignore[union-attr]
                for info in twin
                if info.name.endswith(".png")
            }
        assert contents(source, plan) == expected
        assert plan.skipped == {".cls": 90}

    @pytest.mark.parametrize(("name", "count"), [("compressed.tar", 3), ("testgz.tar", 1000)])
    def test_tars_of_gzipped_texts_hold_no_picture(
        self, shared_data: Path, name: str, count: int
    ) -> None:
        """Nested archives are not opened."""
        assert f"skipped: {count} .gz" in refusal(shared_data / "archives" / name)

    def test_the_folder_of_tars_is_a_set_of_shards(self, shared_data: Path) -> None:
        """Three tars, one archive."""
        plan = archive.plan(str(shared_data / "archives"))
        assert plan.inputs.num_rows == 90
        assert plan.skipped == {".cls": 90, ".gz": 1003}

    def test_tar_with_links_and_devices(self, shared_data: Path) -> None:
        """One good member; `sym/passwd` and the links have no picture's name."""
        source = str(shared_data / "hostile" / "tar_links_devices.tar")
        plan = archive.plan(source)
        good = (shared_data / "hostile" / "good_8x8.png").read_bytes()
        assert contents(source, plan) == {
            "good.png": good,
            "../escape.png": "unsafe_path",
            "/abs.png": "unsafe_path",
            "fifo.png": "special_file",
            "dev.png": "special_file",
        }
        assert plan.skipped == {"link": 2, "no suffix": 1}

    def test_zip_with_names_that_leave_the_folder(self, shared_data: Path) -> None:
        """Also a folder that holds bytes, a device name of Windows, a long name, and a twin."""
        source = str(shared_data / "hostile" / "zip_abs_and_dotdot.zip")
        found = contents(source, archive.plan(source))
        good = (shared_data / "hostile" / "good_8x8.png").read_bytes()
        long_name = next(name for name in found if name.startswith("aaa"))
        assert found == {
            "ok/good.png": good,
            "../../escape.png": "unsafe_path",
            "/abs/escape.png": "unsafe_path",
            "ok/..\\..\\win.png": "unsafe_path",
            "ok/": "unsafe_path",
            "CON.png": good,
            long_name: good,
            "dup.png": good,
            "dup.png#2": "duplicate",
        }

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("zip_bomb_50MB_in_50KB.zip", {"zeros.bmp": "too_compressed"}),
            ("zip_symlink.zip", {"link.png": "link"}),
        ],
    )
    def test_zip_bomb_and_link(
        self, shared_data: Path, name: str, expected: dict[str, str]
    ) -> None:
        """Refused at planning."""
        assert reasons(shared_data / "hostile" / name) == expected

    def test_the_hostile_folder_is_an_archive(self, shared_data: Path) -> None:
        """Every picture's bytes come as they are; nested archives and XML are counted."""
        folder = shared_data / "hostile"
        plan = archive.plan(str(folder))
        found = contents(str(folder), plan)
        assert found == {name: (folder / name).read_bytes() for name in found}
        assert plan.skipped == {".gz": 1, ".tar": 1, ".xml": 24, ".zip": 3}
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(found) + sum(plan.skipped.values()) == len(files)

    def test_a_gzipped_picture_is_no_archive(self, shared_data: Path) -> None:
        """50 MB of zeros are not inflated to find out."""
        refusal(shared_data / "hostile" / "gzip_bomb_50MB.jpg.gz")


def test_every_failure_has_a_word_of_the_closed_list(tmp_path: Path) -> None:
    """The words in the plan are words of REASONS, and the failure names its member."""
    source = make(tmp_path, as_tar, {"../a.png": picture(0), "b.png": picture(1)})
    inputs = archive.plan(source).inputs
    for member in archive.stream(source, inputs):
        if member.failure is not None:
            assert member.failure.item == member.image
            assert member.failure.reason in REASONS


def test_a_store_that_cannot_be_reached_is_no_fault_of_its_members(tmp_path: Path) -> None:
    """The error passes, so that the shard is tried again and its rows are not lost."""

    class Away(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "away"

        def _open(self, path: str, mode: str = "rb", **_: object) -> Iterator[bytes]:
            raise ConnectionResetError(path)

    fsspec.register_implementation("away", Away, clobber=True)
    plan = archive.plan(make(tmp_path, as_folder, pictures(1)))
    with pytest.raises(ConnectionError):
        list(archive.stream("away://bucket", plan.inputs))
    packed = archive.plan(make(tmp_path / "t", as_tar, pictures(1)))
    with pytest.raises(ConnectionError):
        list(archive.stream("away://bucket/x.tar", packed.inputs))


def test_the_results_cannot_be_changed(tmp_path: Path) -> None:
    """Plans and members are frozen."""
    plan = archive.plan(make(tmp_path, as_folder, pictures(1)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.inputs = None  # type: ignore[misc]
