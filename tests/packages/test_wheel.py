"""Wheels become trees."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import FileContent, ToolRequest, TreeContent
from forge.core.tree import File, Tree, TreeError
from forge.packages.unpack import UNPACK_VERSION, unpack
from tests.fakes.store import MemoryStore

NAME = "demo-1.0-py3-none-any.whl"
SITE = "usr/local/lib/python3.11/dist-packages"
WHEEL = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
MODULE = {"demo/__init__.py": b"print('demo')\n"}


def line(path: str, data: bytes, algorithm: str = "sha256") -> str:
    hash_ = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    quoted = f'"{path}"' if "," in path else path
    return f"{quoted},{algorithm}={hash_},{len(data)}"


def record(files: Mapping[str, bytes], algorithm: str = "sha256") -> bytes:
    lines = [line(path, data, algorithm) for path, data in files.items()]
    return "\n".join([*lines, "demo-1.0.dist-info/RECORD,,\n"]).encode()


def contents(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Add what every wheel has; a RECORD in `files` stays."""
    full = {"demo-1.0.dist-info/WHEEL": WHEEL, **files}
    return {**full, "demo-1.0.dist-info/RECORD": full.get("demo-1.0.dist-info/RECORD", record(full))}


def pack(
    files: Mapping[str, bytes], modes: Mapping[str, int] | None = None, compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path, data in files.items():
            info = zipfile.ZipInfo(path)
            info.external_attr, info.compress_type = (modes or {}).get(path, 0o100644) << 16, compression
            archive.writestr(info, data)
    return out.getvalue()


def wheel(files: Mapping[str, bytes] = MODULE, modes: Mapping[str, int] | None = None) -> bytes:
    return pack(contents(files), modes)


def run(data: bytes, store: MemoryStore | None = None, *, name: str = NAME, python: str = "3.11") -> Tree:
    store = store or MemoryStore()
    file = FileContent(store.put(data))
    out = unpack(ToolRequest({"format": "wheel", "python": python, "name": name}, {"file": file}, store))["tree"]
    assert isinstance(out, TreeContent)
    return Tree.decode(store.read(out.tree))


def refusal(data: bytes, name: str = NAME) -> str:
    with pytest.raises(ActionFailed) as caught:
        run(data, name=name)
    return str(caught.value)


def text(store: MemoryStore, tree: Tree, path: str) -> str:
    return store.read(cast(File, tree.entries[path]).digest).decode()


def test_a_wheel_goes_where_debians_python_looks() -> None:
    tree = run(wheel())

    assert list(tree.entries) == [
        f"{SITE}/demo-1.0.dist-info/INSTALLER",
        f"{SITE}/demo-1.0.dist-info/RECORD",
        f"{SITE}/demo-1.0.dist-info/WHEEL",
        f"{SITE}/demo/__init__.py",
    ]
    assert tree.entries[f"{SITE}/demo/__init__.py"] == File(Digest.of(MODULE["demo/__init__.py"]))


def test_each_scheme_has_its_folder() -> None:
    keys = ("purelib", "platlib", "scripts", "headers", "data")

    tree = run(wheel({f"demo-1.0.data/{key}/{key}.x": b"" for key in keys}), python="3.12")

    assert [path for path in tree.entries if path.endswith(".x")] == [
        "usr/local/bin/scripts.x",
        "usr/local/data.x",
        "usr/local/include/python3.12/demo/headers.x",
        "usr/local/lib/python3.12/dist-packages/platlib.x",
        "usr/local/lib/python3.12/dist-packages/purelib.x",
    ]


def test_the_record_names_what_was_installed() -> None:
    store = MemoryStore()
    files = {**MODULE, "demo-1.0.data/scripts/tool": b"#!/bin/sh\n", "a,b.txt": b""}

    tree = run(wheel(files), store)

    assert text(store, tree, f"{SITE}/demo-1.0.dist-info/RECORD").splitlines() == [
        line("../../../bin/tool", b"#!/bin/sh\n"),
        line("a,b.txt", b""),
        line("demo-1.0.dist-info/INSTALLER", b"forge\n"),
        "demo-1.0.dist-info/RECORD,,",
        line("demo-1.0.dist-info/WHEEL", WHEEL),
        line("demo/__init__.py", MODULE["demo/__init__.py"]),
    ]


def test_entry_points_become_programs() -> None:
    store = MemoryStore()
    declared = (
        b"[console_scripts]\ndemo = demo.cli:App.main [extra]\n[gui_scripts]\nDemo-Gui=demo:gui\n[other]\nx = y\n"
    )

    tree = run(wheel({"demo-1.0.dist-info/entry_points.txt": declared}), store)

    programs = [path for path in tree.entries if path.startswith("usr/local/bin/")]
    assert programs == ["usr/local/bin/Demo-Gui", "usr/local/bin/demo"]
    assert cast(File, tree.entries["usr/local/bin/demo"]).executable
    assert text(store, tree, "usr/local/bin/demo") == (
        "#!/usr/bin/python3\nimport sys\n\nfrom demo.cli import App\n\n"
        'if __name__ == "__main__":\n    sys.exit(App.main())\n'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"#!python\nx", "#!/usr/bin/python3\nx"),
        (b"#!pythonw -E\r\nx", "#!/usr/bin/python3 -E\r\nx"),
        (b"#!python3\nx\n#!python\n", "#!python3\nx\n#!python\n"),
        (b"#!/bin/sh\nx", "#!/bin/sh\nx"),
    ],
)
def test_a_scripts_first_line_names_the_interpreter(before: bytes, after: str) -> None:
    store = MemoryStore()

    tree = run(wheel({"demo-1.0.data/scripts/tool": before}), store)

    assert text(store, tree, "usr/local/bin/tool") == after


def test_executables_are_scripts_and_what_the_zip_calls_so() -> None:
    files = {"demo-1.0.data/scripts/tool": b"", "demo/tool": b"", "demo/text": b""}

    tree = run(wheel(files, {"demo/tool": 0o100755, "demo/text": 0o100666}))

    executable = [path for path, file in tree.files() if file.executable]
    assert executable == ["usr/local/bin/tool", f"{SITE}/demo/tool"]


def test_the_same_files_give_the_same_tree_in_any_order_and_under_any_umask() -> None:
    files = contents({**MODULE, "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nb = demo:b\na = demo:a\n"})
    expected = run(pack(files))
    umask = os.umask(0o077)
    try:
        actual = run(pack(dict(reversed(files.items())), compression=zipfile.ZIP_STORED))
    finally:
        os.umask(umask)

    assert actual == expected


def test_names_that_differ_in_case_are_two_files() -> None:
    tree = run(wheel({"demo/a.py": b"", "demo/A.py": b""}))

    assert {f"{SITE}/demo/a.py", f"{SITE}/demo/A.py"} <= tree.entries.keys()


def test_the_tree_is_that_of_this_version() -> None:
    """Another digest here needs another UNPACK_VERSION."""
    files = {**MODULE, "demo-1.0.data/scripts/tool": b"#!python\n", "demo-1.0.data/data/share/x": b"x"}
    declared = {"demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n"}

    assert (UNPACK_VERSION, run(wheel({**files, **declared})).root.hash) == (
        "1",
        "91d07ea78ff04336d0e3a978d08721d515aa05ad6a6493471fd6ea066c064b25",
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_no_damage_ends_in_a_traceback(position: int, bytes_: bytes) -> None:
    good = wheel()
    position %= len(good)

    with contextlib.suppress(ActionFailed):
        run(good[:position] + bytes_ + good[position + len(bytes_) :])


def test_large_files_are_streamed() -> None:
    data = bytes(range(256)) * 10_000

    tree = run(wheel({"demo/big": data}))

    assert tree.entries[f"{SITE}/demo/big"] == File(Digest.of(data))


class _Pipe(io.RawIOBase):
    """What cannot be sought in, so that zipfile writes sizes after the contents."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += bytes(data)
        return len(data)


@pytest.mark.parametrize("force_zip64", [False, True])
def test_sizes_may_follow_the_contents(force_zip64: bool) -> None:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents(MODULE).items():
            with archive.open(path, "w", force_zip64=force_zip64) as member:
                member.write(data)

    assert run(pipe.written) == run(wheel())


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_strong_hash_is_verified(algorithm: str) -> None:
    files = {"demo-1.0.dist-info/WHEEL": WHEEL, **MODULE}
    lines = record(files, algorithm)
    good = {**files, "demo-1.0.dist-info/RECORD": lines}
    bad = {**good, "demo/__init__.py": b"print('evil')\n"}

    assert run(pack(good)) == run(wheel())
    assert "`demo/__init__.py` is not what RECORD says" in refusal(pack(bad))


def test_a_hash_in_hexadecimal_digits_is_verified() -> None:
    files = {"demo-1.0.dist-info/WHEEL": WHEEL}
    line = f"demo-1.0.dist-info/WHEEL,sha256={hashlib.sha256(WHEEL).hexdigest()},{len(WHEEL)}\n".encode()

    assert run(pack({**files, "demo-1.0.dist-info/RECORD": line})) == run(wheel({}))


def test_what_an_installer_writes_is_not_taken_from_the_wheel() -> None:
    files = {f"demo-1.0.dist-info/{name}": b"odd" for name in ("INSTALLER", "REQUESTED", "direct_url.json")}
    signed = {**contents(files), "demo-1.0.dist-info/RECORD.jws": b"unrecorded"}

    assert run(pack(signed)) == run(wheel({}))


@pytest.mark.parametrize("name", ["Demo-1.0-py3-none-any.whl", "demo-1.0-1-py3-none-any.whl", "file", ""])
def test_a_file_may_be_called_so(name: str) -> None:
    assert run(wheel(), name=name) == run(wheel())


def test_a_wheel_of_another_project_is_refused() -> None:
    assert "not what the file is called" in refusal(wheel(), "other-1.0-py3-none-any.whl")


def test_another_version_is_refused() -> None:
    assert "not what the file is called" in refusal(wheel(), "demo-1.1-py3-none-any.whl")


names = st.text("abXY._-é ,\"'", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.tuples(st.binary(max_size=300), st.booleans()), max_size=8))
def test_what_zipfile_packs_comes_out_again(items: Mapping[str, tuple[bytes, bool]]) -> None:
    files = {f"demo/{path}": data for path, (data, _) in items.items()}
    modes = {f"demo/{path}": 0o100755 if executable else 0o100644 for path, (_, executable) in items.items()}
    out = io.StringIO(newline="")
    full = {"demo-1.0.dist-info/WHEEL": WHEEL, **files}
    for path, data in full.items():
        quoted = path.replace('"', '""')
        hash_ = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        out.write(f'"{quoted}",sha256={hash_},{len(data)}\r\n')
    packed = pack({**full, "demo-1.0.dist-info/RECORD": out.getvalue().encode()}, modes)
    expected = {f"{SITE}/demo/{path}": File(Digest.of(data), executable) for path, (data, executable) in items.items()}
    try:
        Tree.of(expected)
    except TreeError:
        assert refusal(packed)
        return

    tree = run(packed)

    assert {path: entry for path, entry in tree.entries.items() if ".dist-info/" not in path} == expected
