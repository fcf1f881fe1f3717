"""A truth file at work: changed picture by picture, and whole on the disk after every change.

Others may write the same file meanwhile, imglab or a second person. What they changed is taken in;
a change of ours counts only if the picture's entry is still the one that it was made on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nnst import storage
from nnst.errors import InputError
from nnst.imglab.document import encode, read
from nnst.imglab.truth import Dataset, Image

_NO_FILE = ""


class TruthFile:
    """An imglab file that is there, or will be with the first change. One thread at a time."""

    def __init__(self, path: Path, dataset: Dataset, digest: str) -> None:
        self.path = path
        self.dataset = dataset
        self._digest = digest  # of the file as it was last read or written; none: _NO_FILE
        self._entries = _by_file(dataset)

    @classmethod
    def open(cls, path: str | Path, *, allow_outside: bool = False) -> TruthFile:
        """The file as it is; an empty data set where there is none. Raises InputError."""
        path = Path(path)
        if not path.exists():
            return cls(path, Dataset(path=path, allow_outside=allow_outside), _NO_FILE)
        data = path.read_bytes()
        return cls(path, read(path, allow_outside=allow_outside), storage.sha256(data))

    @property
    def revision(self) -> str:
        """Tells one state of the file from another."""
        return self._digest[:16]

    def entry(self, file: str) -> Image | None:
        """What the file says of a picture; None: nothing, as nobody has looked."""
        return self._entries.get(file)

    def version(self, file: str) -> str:
        """Tells one state of a picture's entry from another."""
        entry = self._entries.get(file)
        return storage.sha256(repr(entry).encode())[:16] if entry else "none"

    def refresh(self) -> bool:
        """Take in what others have written; whether there was any.

        Raises InputError when the file is gone, or cannot be read as it is now.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        digest = storage.sha256(data) if data else _NO_FILE
        if digest == self._digest:
            return False
        if not data:
            what = f"{self.path} is gone or empty"
            raise InputError(what, "bring it back, or end this and start anew")
        self.dataset = read(self.path, allow_outside=self.dataset.allow_outside)
        self._entries = _by_file(self.dataset)
        self._digest = digest
        return True

    def change(self, file: str, entry: Image | None, base: str) -> bool:
        """Save another entry for a picture, or none; what others have written is kept.

        False, and nothing is changed, when the picture's entry is no longer of the version `base`.
        Raises InputError as `refresh` does.
        """
        with self._alone():
            self.refresh()
            if self.version(file) != base:
                return False
            entries = dict(self._entries)
            if entry is None:
                entries.pop(file, None)
            else:
                entries[file] = entry  # a new one comes last
            if list(entries.values()) != list(self.dataset.images):
                self._save(replace(self.dataset, images=tuple(entries.values())))
        return True

    def _save(self, dataset: Dataset) -> None:
        data = encode(dataset)
        storage.put(self.path, data)
        self.dataset, self._entries = dataset, _by_file(dataset)
        self._digest = storage.sha256(data)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other programs of nnst from writing between our look at the file and our put."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network disks cannot lock
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _by_file(dataset: Dataset) -> dict[str, Image]:
    return {image.file: image for image in dataset.images}
