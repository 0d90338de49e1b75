"""A call of buildx, as words of a command."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from forge.core.digest import Digest
from forge.core.image_build import ImageBuild, Layout, comma_separated, words
from forge.core.tree import Tree

EMPTY = Tree.of({})
IMAGE = Layout(EMPTY, Digest("a" * 64, 7))
BUILD = ImageBuild(
    "acme-x-1", b"FROM base\n", ("linux/amd64", "linux/arm64"), 0, contexts={"base": IMAGE, "files": EMPTY}
)
FOLDERS = {"": "/w/context", "base": "/w/base", "files": "/w/files"}


def line(build: ImageBuild) -> list[str]:
    return words(build, folders=FOLDERS, out="/w/out", dockerfile="/w/Dockerfile")


def test_a_call_is_complete() -> None:
    assert line(BUILD) == [
        "--progress=plain",
        "--provenance=false",
        "--sbom=false",
        "--network=none",
        "--platform=linux/amd64,linux/arm64",
        "--file=/w/Dockerfile",
        "--build-arg=SOURCE_DATE_EPOCH=0",
        f"--build-context=base=oci-layout:///w/base@sha256:{'a' * 64}",
        "--build-context=files=/w/files",
        "--output=type=oci,dest=/w/out,tar=false",
        "/w/context",
    ]


def test_what_is_set_is_said() -> None:
    build = replace(
        BUILD,
        args=(("A", "1"),),
        target="final",
        annotations=(("org.title", "x"),),
        rewrite=True,
        network=True,
    )

    assert set(line(build)) - set(line(BUILD)) == {
        "--network=default",
        "--build-arg=A=1",
        "--target=final",
        "--annotation=manifest:org.title=x",
        "--output=type=oci,dest=/w/out,tar=false,rewrite-timestamp=true",
    }


@pytest.mark.parametrize("value", ["a\n--push", "$(id)", "{{x}}", '"; rm', "--network=host", "a,dest=/etc", ""])
def test_no_value_is_another_option(value: str) -> None:
    build = replace(BUILD, args=(("A", value),), annotations=(("a", value),))
    found = line(build)

    assert len(found) == len(line(BUILD)) + 2
    assert {f"--build-arg=A={value}", f"--annotation=manifest:a={value}"} <= set(found)


@pytest.mark.parametrize("value", ["dest=/a,b", 'dest=/a"b', "dest=/a\nb", "plain"])
def test_a_field_is_quoted_where_csv_would_split_it(value: str) -> None:
    assert next(csv.reader([comma_separated(["type=oci", value])], strict=True))[0] == "type=oci"
    assert list(csv.reader(comma_separated(["type=oci", value]).splitlines(keepends=True))) == [["type=oci", value]]
