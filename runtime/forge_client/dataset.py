"""What is sent: prompts, files as they are, tensors, or whole request bodies, read from a file or a folder."""

from __future__ import annotations

import base64
import io
import mimetypes
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from forge_client.error import UsageFault
from forge_client.tensor import flat
from forge_client.value import read_json, table_of

__all__ = ["Dataset", "File", "Files", "Payloads", "Prompts", "Tensor", "Tensors", "read_dataset"]

SIZE_LIMIT = 1 << 30
"""Bytes of a data set: all of it is held in memory."""
_GENERATION = {"max_length", "max_new_tokens", "temperature", "top_p", "do_sample", "seed"}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts to go on with."""

    prompts: tuple[str, ...]
    gen: Mapping[str, object] = field(default_factory=dict)
    """How to generate, by the names of `/api/infer`."""

    def __len__(self) -> int:
        return len(self.prompts)

    def first(self, count: int) -> Prompts:
        """Keep the first few."""
        return replace(self, prompts=self.prompts[:count])


@dataclass(frozen=True, slots=True)
class File:
    """A picture, or a zip of them."""

    name: str
    body: bytes = field(repr=False)
    content_type: str
    items: int = 1
    """Files in the zip, or one."""


@dataclass(frozen=True, slots=True)
class Files:
    """Files that are sent as they are, one a request."""

    files: tuple[File, ...]

    def __len__(self) -> int:
        return len(self.files)

    def first(self, count: int) -> Files:
        """Keep the first few; one zip is one request, however much is in it."""
        return replace(self, files=self.files[:count])


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a model: values in row-major order, or their bytes."""

    content: Sequence[object]
    data: bytes | None = None
    """Little-endian bytes, instead of `content`."""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tensors:
    """Rows for a model: each names all of its inputs."""

    rows: tuple[Mapping[str, Tensor], ...]
    expected: tuple[Mapping[str, Tensor], ...] = ()
    """What each row's answer must be; nothing where it is not known."""

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, count: int) -> Tensors:
        """Keep the first few."""
        return replace(self, rows=self.rows[:count], expected=self.expected[:count])


@dataclass(frozen=True, slots=True)
class Payloads:
    """Whole request bodies for an OpenAI server."""

    bodies: tuple[Mapping[str, object], ...]

    def __len__(self) -> int:
        return len(self.bodies)

    def first(self, count: int) -> Payloads:
        """Keep the first few."""
        return replace(self, bodies=self.bodies[:count])


Dataset = Prompts | Files | Tensors | Payloads


def read_dataset(path: Path, count: int = 0) -> Dataset:
    """Read a data set and keep its first `count`, 0 for all; UsageFault when it is none, or shorter."""
    try:
        if path.is_dir():
            names = sorted(each for each in path.rglob("*") if _is_visible(each.relative_to(path)) and each.is_file())
            found: Dataset = Files(_files(path, names))
        else:
            found = _read_file(path)
    except OSError as error:
        raise UsageFault(f"{path}: Cannot be read: {error.strerror}") from error
    if not len(found):
        raise UsageFault(f"{path}: Has nothing to send")
    if not count or (isinstance(found, Files) and len(found) == 1):
        return found
    if count > len(found):
        raise UsageFault(f"{path}: Has {len(found)} items, not {count}", "Take fewer, or `--dataset-size all`")
    return found.first(count)


def _is_visible(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _files(base: Path, paths: Sequence[Path]) -> tuple[File, ...]:
    total = sum(path.stat().st_size for path in paths)
    if total > SIZE_LIMIT:
        raise UsageFault(f"{base}: Has {total >> 20} MiB, at most {SIZE_LIMIT >> 20} are held in memory")
    return tuple(_file(path, path.relative_to(base).as_posix() if path != base else path.name) for path in paths)


def _file(path: Path, name: str) -> File:
    body = path.read_bytes()
    if path.suffix.lower() != ".zip":
        return File(name, body, mimetypes.guess_type(path.name)[0] or "application/octet-stream")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            items = sum(not entry.is_dir() for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UsageFault(f"{path}: Is no zip: {error}") from error
    return File(name, body, "application/zip", max(1, items))


def _read_file(path: Path) -> Dataset:
    readers = {".txt": _lines, ".jsonl": _json_lines, ".json": _json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        return Files(_files(path, [path]))
    if path.stat().st_size > SIZE_LIMIT:
        raise UsageFault(f"{path}: Is larger than {SIZE_LIMIT >> 20} MiB")
    try:
        return reader(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path}: Is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise UsageFault(f"{path}: {error}") from error


def _lines(text: str) -> Dataset:
    return Prompts(tuple(line for line in text.splitlines() if line.strip()))


def _json_lines(text: str) -> Dataset:
    prompts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = read_json(line)
        except ValueError as error:
            raise ValueError(f"Line {number} is not JSON: {error}") from error
        table = table_of(value)
        prompt = value if isinstance(value, str) else table.get("prompt", table.get("text"))
        if not isinstance(prompt, str):
            raise ValueError(f"Line {number} is neither a text nor an object with a text `prompt`")
        prompts.append(prompt)
    return Prompts(tuple(prompts))


def _json(text: str) -> Dataset:
    value = read_json(text)
    table = table_of(value)
    if "data" in table:
        return _analyzer_input(table)
    if isinstance(value, list):
        table = {"prompts": value}
    prompts = table.get("prompts")
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, list) or not all(isinstance(each, str) for each in prompts):
        raise ValueError('Must be `{"prompts": [texts]}`, or `{"data": [...]}` as perf_analyzer takes it')
    if unknown := set(table) - {"prompts", "gen"}:
        raise ValueError(f"Unknown keys [{', '.join(sorted(unknown))}], it takes [gen, prompts]")
    gen = table.get("gen", {})
    if not isinstance(gen, dict):
        raise ValueError("`gen` must be an object")
    if unknown := set(gen) - _GENERATION:
        raise ValueError(f"`gen` takes no [{', '.join(sorted(unknown))}], it takes [{', '.join(sorted(_GENERATION))}]")
    return Prompts(tuple(prompts), gen)


def _analyzer_input(table: Mapping[str, object]) -> Dataset:
    """Read Triton perf_analyzer's input; what it groups into sequences is sent one by one."""
    rows = _rows(table["data"], "data")
    if all(set(row) == {"payload"} for row in rows):
        bodies = [body for row in rows for body in (row["payload"] if isinstance(row["payload"], list) else [None])]
        if not all(isinstance(body, dict) for body in bodies):
            raise ValueError("`payload` must be a list of request bodies")
        return Payloads(tuple(table_of(body) for body in bodies))
    expected = _rows(table["validation_data"], "validation_data") if "validation_data" in table else []
    if expected and len(expected) != len(rows):
        raise ValueError(f"`validation_data` has {len(expected)} entries, `data` has {len(rows)}")
    return Tensors(tuple(_tensors(row) for row in rows), tuple(_tensors(row) for row in expected))


def _rows(value: object, what: str) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise ValueError(f"`{what}` must be a list")
    flat = [row for each in value for row in (each if isinstance(each, list) else [each])]
    if not all(isinstance(row, dict) for row in flat):
        raise ValueError(f"`{what}` must be a list of objects, or of lists of them")
    return flat


def _tensors(row: Mapping[str, object]) -> dict[str, Tensor]:
    return {name: _tensor(name, value) for name, value in row.items()}


def _tensor(name: str, value: object) -> Tensor:
    table = table_of(value)
    shape = table.get("shape")
    if shape is not None:
        sizes = tuple(each for each in shape if type(each) is int and each >= 0) if isinstance(shape, list) else ()
        if not isinstance(shape, list) or len(sizes) != len(shape):
            raise ValueError(f"`{name}`: `shape` must be a list of whole numbers")
        shape = sizes
    content = table.get("content", table if "b64" in table else None) if table else value
    if isinstance(content, dict) and isinstance(content.get("b64"), str):
        return Tensor((), _decoded(name, content["b64"]), shape)
    if not isinstance(content, list):
        raise ValueError(f"`{name}` must be a list of values, or have `content` or `b64`")
    return Tensor(tuple(flat(content)), None, shape)


def _decoded(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"`{name}`: `b64` is not base64: {error}") from error
