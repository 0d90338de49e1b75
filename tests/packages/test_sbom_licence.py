"""What packages say of their licences, as they really say it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from forge.core.tree import Entries, Entry, File, Symlink
from forge.packages import sbom_spdx
from forge.packages.sbom_licence import Licence, Licences, parse_copyright, parse_metadata, resolve
from tests.fakes.store import MemoryStore

FORMAT = "Format: https://dep.example/copyright-format/1.0/\n"


def said(licences: tuple[Licence, ...]) -> list[str]:
    return [f"{each.kind} {each.text}" for each in licences]


def copyright_of(*names: str, header: str = FORMAT) -> str:
    return header + "".join(
        f"\nFiles: {number}\nCopyright: someone\nLicense: {name}\n" for number, name in enumerate(names)
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Expat"], ["id MIT"]),
        (["GPL-2+", "GPL-2+", "LGPL-2.1"], ["id GPL-2.0-or-later", "id LGPL-2.1-only"]),
        (["GPL-3.0+", "gpl-2"], ["id GPL-2.0-only", "id GPL-3.0-or-later"]),
        (["BSD-3-clause and Zlib"], ["id BSD-3-Clause", "id Zlib"]),
        (["BSD-2-clause, and ISC, public-domain"], ["id BSD-2-Clause", "id ISC", "name public-domain"]),
        (["Artistic  or GPL-1+"], ["name Artistic or GPL-1+"]),
        (["GPL-3+ with Autoconf exception"], ["name GPL-3+ with Autoconf exception"]),
        (["Apache-2.0\n The text of the licence,\n .\n in full"], ["id Apache-2.0"]),
        ([""], []),
    ],
    ids=str,
)
def test_a_machine_readable_copyright_file_names_its_licences(names: list[str], expected: list[str]) -> None:
    assert said(parse_copyright(copyright_of(*names))) == expected


def test_the_header_s_licence_counts_and_a_licence_s_own_paragraph_does_not() -> None:
    text = FORMAT + "License: MPL-2.0\n\nFiles: *\nLicense: ISC\n\nLicense: GPL-9\n text\n"

    assert said(parse_copyright(text)) == ["id ISC", "id MPL-2.0"]


def test_the_form_s_draft_is_read_too() -> None:
    header = "Format-Specification: https://dep.example/deps/dep5/\n"

    assert said(parse_copyright(copyright_of("ISC", header=header))) == ["id ISC"]


@pytest.mark.parametrize("text", ["", "This is GNU software.\nLicense: GPL-2+\n", "\n\n", " odd\n", "\0\n"])
def test_prose_is_not_guessed_at(text: str) -> None:
    assert parse_copyright(text) == ()


CLASSIFIER = "Classifier: License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["License-Expression: MIT"], ["id MIT"]),
        (["License-Expression: mit", f"{CLASSIFIER}BSD License"], ["id MIT"]),
        (["License-Expression: Apache-2.0 OR BSD-2-Clause"], ["expression Apache-2.0 OR BSD-2-Clause"]),
        (
            ["License-Expression: MIT AND (Apache-2.0 WITH LLVM-exception)"],
            ["expression MIT AND (Apache-2.0 WITH LLVM-exception)"],
        ),
        (["License-Expression: LicenseRef-Acme"], ["expression LicenseRef-Acme"]),
        (["License-Expression: see LICENSE"], ["name see LICENSE"]),
        (["License-Expression: MIT!"], ["name MIT!"]),
        (["License: BSD-3-Clause", f"{CLASSIFIER}BSD License"], ["id BSD-3-Clause"]),
        (["License: MIT OR Apache-2.0"], ["expression MIT OR Apache-2.0"]),
        (["License: MIT and more", f"{CLASSIFIER}MIT License"], ["id MIT"]),
        (["License: Apache 2.0 License"], ["name Apache 2.0 License"]),
        (["License: UNKNOWN"], []),
        (["License: The whole text", "        of a licence"], []),
        ([f"License: {'x' * 200}"], []),
        ([f"{CLASSIFIER}BSD License", f"{CLASSIFIER}MIT License"], ["name BSD License", "id MIT"]),
        (["Classifier: License :: OSI Approved"], []),
        (["Classifier: Programming Language :: Python"], []),
        (["", "License: MIT"], []),
    ],
    ids=str,
)
def test_a_wheel_s_metadata_declares_its_licence(lines: list[str], expected: list[str]) -> None:
    text = "\n".join(["Metadata-Version: 2.4", "Name: x", *lines, "", "License: of the description"])

    assert said(parse_metadata(text)) == expected


def test_every_identifier_is_one_of_the_schema_s() -> None:
    schema: Any = json.loads((Path(str(files("cyclonedx.schema"))) / "_res/spdx.SNAPSHOT.schema.json").read_text())
    used = sbom_spdx.IDENTIFIERS | set(sbom_spdx.DEBIAN.values()) | set(sbom_spdx.TROVE.values())

    assert used - set(schema["enum"]) == set()


def licences(texts: dict[str, str], links: dict[str, str] | None = None) -> Licences:
    store = MemoryStore()
    entries: dict[str, Entry] = {path: File(store.put(text.encode())) for path, text in texts.items()}
    entries |= {path: Symlink(target) for path, target in (links or {}).items()}
    return Licences(entries, store)


SITE = "usr/local/lib/python3.11/dist-packages"


def test_a_package_whose_documentation_is_another_s_has_its_licences() -> None:
    found = licences({"usr/share/doc/gcc-base/copyright": copyright_of("ISC")}, {"usr/share/doc/libgcc": "gcc-base"})

    assert said(found.debian("libgcc")) == ["id ISC"]
    assert found.debian("other") == ()


def test_a_wheel_is_found_by_any_spelling_of_its_name() -> None:
    found = licences({f"{SITE}/Foo_Bar.x-1.0.dist-info/METADATA": "License-Expression: ISC\n"})

    assert said(found.wheel("foo-bar-x", "1.0")) == ["id ISC"]
    assert said(found.wheel("foo-bar-x", "1.0.0")) == ["id ISC"]
    assert found.wheel("foo", "1.0") == ()


def test_of_two_versions_the_right_one_is_read() -> None:
    texts = {
        f"{SITE}/x-{version}.dist-info/METADATA": f"License: {name}\n" for version, name in (("1", "ISC"), ("2", "MIT"))
    }
    found = licences(texts)

    assert [said(found.wheel("x", version)) for version in ("1", "2", "3")] == [["id ISC"], ["id MIT"], []]


def test_a_file_of_absurd_size_is_not_read() -> None:
    found = licences({"usr/share/doc/x/copyright": copyright_of("ISC") + " " * (5 << 20)})

    assert found.debian("x") == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/f", "f"),
        ("link/f", "f"),
        ("up/f", "f"),
        ("absolute/f", "f"),
        ("chain", "f"),
        ("loop", ""),
        ("dangling", ""),
        ("outside/f", "f"),
        ("a", ""),
        ("a/f/g", ""),
    ],
)
def test_links_are_followed_inside_the_tree(path: str, expected: str) -> None:
    store = MemoryStore()
    file = File(store.put(b"f"))
    entries: Entries = {
        "a/f": file,
        "link": Symlink("a"),
        "b/c/up": Symlink("../../a"),
        "up": Symlink("b/c/up"),
        "absolute": Symlink("/./a"),
        "chain": Symlink("link/f"),
        "loop": Symlink("loop"),
        "dangling": Symlink("nowhere"),
        "outside": Symlink("../../../a"),
    }

    assert resolve(entries, path) == (file if expected else None)
