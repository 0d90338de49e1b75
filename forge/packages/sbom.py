"""The tool `sbom`: what an image is made of, as CycloneDX 1.6.

params   name, ref, target, platform, arch   of the image
         packages   locked files: kind (`deb` or `python`), name, version, file, sha256, source, suite
         built      wheels that were built from source: name, version, file, sdist, sdist_sha256
         bases      images below it: registry, repository, tag, sha256
         models     name, format, precision, and where it was fetched, source, repository, revision; the first is
                    in the image, each further one is what the one before it was converted from
         place      the model's folder in the image; likewise runtime_place, app_place, config_place
inputs   digest         what the tool `image` says of the image
         environment.N  trees in which the packages' licences are; of two with one path the later counts
         runtime, app   trees
         config         a file
         built.N        the wheel of `built[N]`
         model.N        tree of `models[N]`
outputs  sbom
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from forge import __version__
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import Entry, Tree, merge
from forge.packages.sbom_component import Component, purl, render
from forge.packages.sbom_licence import Licences

SBOM_VERSION = f"2+forge-{__version__}"
"""Part of every key: the document names forge's version. Raise the number when the same image would get another one."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "packages": ("kind", "name", "version", "file", "sha256", "source", "suite"),
    "built": ("name", "version", "file", "sdist", "sdist_sha256"),
    "bases": ("registry", "repository", "tag", "sha256"),
    "models": ("name", "format", "precision", "source", "repository", "revision"),
}

Row = Mapping[str, str]


def sbom(request: ToolRequest) -> Mapping[str, Content]:
    """Write the document; ActionFailed when an input or a parameter is missing."""
    licences = Licences(_environment(request), request.store)
    components = [_package(row, licences) for row in _rows(request, "packages")]
    components += [
        _built(request, row, f"built.{number}", licences) for number, row in enumerate(_rows(request, "built"))
    ]
    components += [_base(request, row) for row in _rows(request, "bases")]
    models = _rows(request, "models")
    if models:
        components.append(_model(request, models, 0, _text(request, "place")))
    components += _runtime(request)
    components.append(_app(request))
    document = render(_image(request), components, tool=Component("application", "forge", __version__))
    return {"sbom": FileContent(request.store.put(document))}


def _image(request: ToolRequest) -> Component:
    """Describe the image itself: its version is the digest of its manifest."""
    described = json.loads(request.store.read(_file(request, "digest").digest))
    digest = str(described["manifest"])
    repository, _, tag = _text(request, "ref").rpartition(":")
    arch = _text(request, "arch")
    return Component(
        "container",
        repository,
        digest,
        purl("oci", repository.rpartition("/")[2], digest, {"arch": arch, "tag": tag}),
        digest.removeprefix("sha256:"),
        properties=(
            ("forge:target", _text(request, "target")),
            ("forge:platform", _text(request, "platform")),
            ("forge:architecture", arch),
            ("forge:tag", tag),
        ),
    )


def _environment(request: ToolRequest) -> dict[str, Entry]:
    names = [name for name in request.inputs if name.startswith("environment.")]
    return merge([_tree(request, name).entries for name in names], replace=True)


def _base(request: ToolRequest, row: Row) -> Component:
    """Describe an image by its digest: what is in it, its maker knows."""
    name, digest = f"{row['registry']}/{row['repository']}", f"sha256:{row['sha256']}"
    about = {"arch": _text(request, "arch"), "repository_url": name, "tag": row["tag"]}
    url = purl("oci", name.rpartition("/")[2], digest, about)
    return Component("container", name, digest, url, row["sha256"], properties=(("forge:source", row["registry"]),))


def _package(row: Row, licences: Licences) -> Component:
    name, version, file = row["name"], row["version"], row["file"]
    if row["kind"] == "deb":
        qualifiers = {"arch": file.removesuffix(".deb").rpartition("_")[2], "distro": row["suite"].partition("-")[0]}
        url, found = purl("deb", name, version, qualifiers, space="debian"), licences.debian(name)
    else:
        url, found = purl("pypi", name, version), licences.wheel(name, version)
    properties = (("forge:file", file), ("forge:source", row["source"]))
    return Component("library", name, version, url, row["sha256"], found, properties)


def _built(request: ToolRequest, row: Row, name: str, licences: Licences) -> Component:
    project, version, sdist = row["name"], row["version"], row["sdist"]
    url = purl("pypi", project, version)
    archive = purl("pypi", project, version, {"file_name": sdist})
    ancestor = Component("library", project, version, archive, row["sdist_sha256"], properties=(("forge:file", sdist),))
    return Component(
        "library",
        project,
        version,
        url,
        _file(request, name).digest.hash,
        licences.wheel(project, version),
        (("forge:file", row["file"]), ("forge:source", "built")),
        ancestor=ancestor,
    )


def _model(request: ToolRequest, rows: list[Row], number: int, place: str) -> Component:
    row = rows[number]
    known = {f"forge:model:{key}": row[key] for key in ("format", "precision")} | {"forge:source": row["source"]}
    space, _, name = row["repository"].rpartition("/")
    return Component(
        "machine-learning-model",
        row["name"],
        row["revision"],
        purl("huggingface", name, row["revision"], space=space) if row["source"] == "hf" else "",
        properties=tuple((key, value) for key, value in known.items() if value),
        parts=tuple(_files(_tree(request, f"model.{number}"), place)),
        ancestor=_model(request, rows, number + 1, "") if number + 1 < len(rows) else None,
    )


def _runtime(request: ToolRequest) -> Iterator[Component]:
    """Describe each package of the runtime: it is of forge's own version. Byte code is what its modules say."""
    own = {path: entry for path, entry in _tree(request, "runtime").entries.items() if not path.endswith(".pyc")}
    for name in sorted({path.partition("/")[0] for path, _ in Tree.of(own).files()}):
        files = Tree.of({path: entry for path, entry in own.items() if path.partition("/")[0] == name})
        parts = tuple(_files(files, _text(request, "runtime_place")))
        yield Component("framework", name, __version__, parts=parts)


def _app(request: ToolRequest) -> Component:
    """Describe what the user brought: handler, data and parameters."""
    config = f"/{_text(request, 'config_place')}"
    parts = [*_files(_tree(request, "app"), _text(request, "app_place"))]
    parts.append(Component("file", config, sha256=_file(request, "config").digest.hash))
    return Component("application", _text(request, "name"), parts=tuple(parts))


def _files(tree: Tree, place: str) -> Iterator[Component]:
    for path, file in tree.files():
        yield Component("file", f"/{place}/{path}" if place else path, sha256=file.digest.hash)


def _tree(request: ToolRequest, name: str) -> Tree:
    content = request.inputs.get(name)
    if not isinstance(content, TreeContent):
        raise ActionFailed(f"`sbom` needs the folder `{name}`")
    return Tree.decode(request.store.read(content.tree))


def _file(request: ToolRequest, name: str) -> FileContent:
    content = request.inputs.get(name)
    if not isinstance(content, FileContent):
        raise ActionFailed(f"`sbom` needs the file `{name}`")
    return content


def _text(request: ToolRequest, name: str) -> str:
    value = request.params.get(name)
    if not isinstance(value, str):
        raise ActionFailed(f"`sbom` needs the text `{name}`")
    return value


def _rows(request: ToolRequest, name: str) -> list[Row]:
    """Read a list of tables of texts; those of one list have the same keys."""
    value = request.params.get(name, [])
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if rows != value or any(row.keys() != set(_KEYS[name]) for row in rows):
        raise ActionFailed(f"`{name}` of `sbom` must be a list of tables with [{', '.join(_KEYS[name])}]")
    return [{key: str(text) for key, text in row.items()} for row in rows]
