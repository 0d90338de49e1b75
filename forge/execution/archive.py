"""Trees to and from a container engine: as tar archives, which need no disk that both of them see.

What goes in has the modes, owner and times that the sandbox shows; what comes out is judged as the sandbox's outputs
are, but for sockets: tar knows none, so that an engine leaves them out.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from forge.core.action import OUT, WORK
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Entry, File, Folder, Symlink, Tree, TreeError, under
from forge.execution.collect import SMALL, checked_link
from forge.execution.sandbox import UID
from forge.execution.store import STAMP, LocalStore

_CHUNK: Final = 1 << 20
_BLOCK: Final = tarfile.BLOCKSIZE
_STICKY: Final = frozenset({"tmp", "var/tmp"})


def pack_root(store: LocalStore, content: TreeContent) -> Iterator[bytes]:
    """Write a tree as the file system of a container, with the folder that actions work in."""
    tree = Tree.decode(store.read(content.tree))
    return _pack(store, {**tree.entries, f"{WORK}/{OUT}": Folder()})


def pack_inputs(
    store: LocalStore, inputs: Mapping[str, Content], outputs: Iterable[str], *, any_user: bool = False
) -> Iterator[bytes]:
    """Write what an action finds below `/`: its inputs, and the folders in which it leaves its outputs.

    `any_user` may write there, not only the one whom the sandbox has.
    """
    entries: dict[str, Entry] = {f"{WORK}/{OUT}": Folder()}
    for path, content in inputs.items():
        place = f"{WORK}/{path}"
        if isinstance(content, FileContent):
            entries[place] = File(content.digest, content.executable)
        else:
            entries[place] = Folder()
            entries.update(under(place, Tree.decode(store.read(content.tree)).entries))
    for output in outputs:
        folder = output.rstrip("/") if output.endswith("/") else output.rpartition("/")[0]
        entries[f"{WORK}/{OUT}/{folder}".rstrip("/")] = Folder()
    return _pack(store, entries, open_below=f"{WORK}/{OUT}" if any_user else "-")


def unpack_outputs(
    store: LocalStore, fetch: Callable[[], Iterator[bytes]], outputs: tuple[str, ...]
) -> dict[str, Content]:
    """Take each declared output out of an archive of the output folder; ActionFailed as `collect` has it."""
    found = _Outputs(store, outputs)
    found.read(fetch())
    if found.elsewhere:  # a second name of a file whose first name is no output: once more, with that one
        found = _Outputs(store, outputs, found.elsewhere)
        found.read(fetch())
    return {output: found.content(output) for output in outputs}


def unpack_left(chunks: Iterator[bytes], outputs: Collection[str]) -> dict[str, bytes]:
    """Read what an action that failed has left of its outputs: small files at the top, and no link."""
    left = {}
    with tarfile.open(fileobj=io.BufferedReader(_Chunks(chunks), _CHUNK), mode="r|", bufsize=_CHUNK) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if name in outputs and member.isreg() and member.size <= SMALL:
                source = archive.extractfile(member)
                left[name] = source.read() if source else b""
    return left


class _Outputs:
    """What an archive holds of some outputs."""

    def __init__(self, store: LocalStore, outputs: tuple[str, ...], more: Collection[str] = ()) -> None:
        self._store = store
        self._outputs = outputs
        self._more = more
        self._entries: dict[str, Entry] = {}
        self._faults: dict[str, str] = {}
        """Path -> what is wrong with what lies there."""
        self.elsewhere: set[str] = set()
        """Files outside the outputs that have a second name inside."""

    def read(self, chunks: Iterator[bytes]) -> None:
        """Read an archive whose one top folder is the output folder."""
        with tarfile.open(fileobj=io.BufferedReader(_Chunks(chunks), _CHUNK), mode="r|", bufsize=_CHUNK) as archive:
            for member in archive:
                path = member.name.partition("/")[2].rstrip("/")
                if path and (self._is_wanted(path) or path in self._more):
                    self._take(archive, member, path)

    def content(self, output: str) -> Content:
        """Judge one output."""
        path = output.rstrip("/")
        entry, fault = self._entries.get(path), self._faults.get(path)
        parents = [path[:end] for end in range(len(path)) if path[end] == "/"]
        if (entry is None and fault is None) or any(self._entries.get(each) != Folder() for each in parents):
            raise ActionFailed(f"The action did not make its output `{output}`")
        if not output.endswith("/"):
            if fault is not None and fault.startswith("is set-"):
                raise ActionFailed(f"The output `{path}` {fault}")
            if not isinstance(entry, File):
                raise ActionFailed(f"The output `{output}` is not a regular file")
            return FileContent(entry.digest, entry.executable)
        if not isinstance(entry, Folder):
            raise ActionFailed(f"The output `{output}` is not a folder")
        return self._tree(output)

    def _tree(self, output: str) -> TreeContent:
        below: dict[str, Entry] = {}
        for path in sorted({*self._entries, *self._faults}):
            if not path.startswith(output):
                continue
            name = path.removeprefix(output)
            if fault := self._faults.get(path):
                raise ActionFailed(f"The output `{name!a}` {fault}")
            entry = self._entries[path]
            below[name] = checked_link(entry.target, name) if isinstance(entry, Symlink) else entry
        try:
            tree = Tree.of(below)
        except TreeError as error:
            raise ActionFailed(f"The output `{output}` cannot be kept: {error}") from error
        self._store.put(tree.encoded)
        return TreeContent(tree.digest, tree.root)

    def _is_wanted(self, path: str) -> bool:
        return any(f"{each.rstrip('/')}/".startswith(f"{path}/") or path.startswith(each) for each in self._outputs)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        try:
            path.encode()
        except UnicodeEncodeError:
            self._faults[path] = "has a name that is not UTF-8"
            return
        if member.islnk():
            first = member.linkname.partition("/")[2]
            if first not in self._entries and first not in self._faults:
                self.elsewhere.add(first)
            elif first in self._entries:
                self._entries[path] = self._entries[first]
            else:
                self._faults[path] = self._faults[first]
        elif member.isdir():
            self._entries[path] = Folder()
        elif member.issym():
            self._entries[path] = Symlink(member.linkname)
        elif not member.isreg():
            self._faults[path] = "is a device, socket or pipe"
        elif member.mode & 0o6000:
            self._faults[path] = "is set-uid or set-gid"
        else:
            self._entries[path] = self._file(archive, member)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> File:
        source = archive.extractfile(member)
        assert source is not None
        with self._store.writer() as writer:
            while chunk := source.read(_CHUNK):
                writer.write(chunk)
            return File(writer.commit(), bool(member.mode & 0o100))


class _Chunks(io.RawIOBase):
    """Reads pieces that come one after another."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill some of `buffer`; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _pack(store: LocalStore, entries: Mapping[str, Entry], open_below: str = "-") -> Iterator[bytes]:
    """Write entries with all their parents; modes and times as they are where the store's files are linked."""
    tree = Tree.of(entries)
    found: dict[str, Entry] = {**tree.entries, **{name: Folder() for name in tree.folders()}}
    literal = bytearray()
    for path, entry in sorted(found.items()):
        is_open = path in _STICKY or f"{path}/".startswith(f"{open_below}/")
        literal += _header(path, entry, folder_mode=0o1777 if is_open else 0o755)
        if isinstance(entry, File) and entry.digest.size:
            yield bytes(literal)
            literal = bytearray(-entry.digest.size % _BLOCK)
            with store.open(entry.digest) as source:
                while chunk := source.read(_CHUNK):
                    yield chunk
        elif len(literal) >= _CHUNK:
            yield bytes(literal)
            literal = bytearray()
    yield bytes(literal + bytes(2 * _BLOCK))


def _header(path: str, entry: Entry, *, folder_mode: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.uid = info.gid = UID
    info.mtime = STAMP
    if isinstance(entry, Symlink):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
    elif isinstance(entry, Folder):
        info.type, info.mode = tarfile.DIRTYPE, folder_mode
    else:
        info.size, info.mode = entry.digest.size, 0o555 if entry.executable else 0o444
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
