"""The tool `dockerfile`: somebody's own Dockerfile becomes an OCI layout, of one architecture or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import ActionFailed, Fault
from forge.core.image_build import ImageBuild, ImageBuilder, Layout
from forge.core.tool import Content, FileContent, Tool, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Tree, under
from forge.oci import document, layout, mediatype
from forge.oci.check import Check
from forge.oci.dockerfile_scan import faults_of
from forge.oci.flatten import flatten
from forge.oci.image import answer
from forge.oci.leak import check_layer, check_texts
from forge.oci.manifest import Descriptor, Index, Machine
from forge.oci.summary import ImageSummary, LayerSummary, summarize_all
from forge.oci.validate import validate_all

DOCKERFILE_VERSION: Final = "1"
"""Goes into keys, with the versions of buildx and BuildKit."""
FLATTEN_VERSION: Final = "1"
_PARAMS = ("architectures", "args", "created", "network", "not_secret", "path", "ref", "secrets", "setuid", "target")


def builder_tool(builder: ImageBuilder) -> Tool:
    """Make the tool; `builder` runs buildx."""
    return partial(build, builder)


def build(builder: ImageBuilder, request: ToolRequest) -> Mapping[str, Content]:
    """Build a Dockerfile over declared content only.

    Inputs: `dockerfile`; `context/PATH` for each file of the context; `files/NAME` for a named context that is a folder
    or a file, `images/NAME/N` for one that is an image, of each architecture.
    Parameters: `architectures`; `args`; `created`, the time that everything bears; `network`, whether steps have one;
    `not_secret`, files that are none; `path` of the Dockerfile in messages; `ref`; `secrets`, names; `setuid`,
    programs that may act as their owner; `target`, a stage.
    Outputs: `layout` and `digest`, as of the tool `image`.
    """
    check = Check("dockerfile")
    check.known(request.params, _PARAMS)
    path, ref = (check.text(request.params.get(name, ""), name) for name in ("path", "ref"))
    architectures = check.texts(request.params.get("architectures"), "architectures")
    args = check.pairs(request.params.get("args", {}), "args")
    created = check.text(request.params.get("created"), "created")
    own = request.inputs["dockerfile"]
    assert isinstance(own, FileContent)
    dockerfile = request.store.read(own.digest)
    contexts = _contexts(check, request, architectures)
    check.finish(ActionFailed)
    _refuse(dockerfile.decode(errors="replace"), path, contexts, args)
    made = builder.build(
        ImageBuild(
            name=ref.replace("/", "-").replace(":", "-"),
            dockerfile=dockerfile,
            platforms=tuple(f"linux/{arch}" for arch in architectures),
            epoch=int(datetime.fromisoformat(created).timestamp()),
            context=Tree.of(_below(request, "context")),
            contexts=contexts,
            args=tuple(sorted(args.items())),
            target=check.text(request.params.get("target", ""), "target"),
            secrets=check.texts(request.params.get("secrets", []), "secrets"),
            rewrite=True,
            network=check.boolean(request.params.get("network", False), "network"),
        )
    )
    found = _outputs(request.store, made, architectures, {mediatype.REF_NAME: ref} if ref else {})
    _refuse_leaks(request, made, contexts.values())
    return found


def flattened(request: ToolRequest) -> Mapping[str, Content]:
    """Lay the layers of the input `layout` over one another; the output `root` is a tree."""
    content = request.inputs["layout"]
    assert isinstance(content, TreeContent)
    tree = flatten(Tree.decode(request.store.read(content.tree)), request.store)
    request.store.put(tree.encoded)
    return {"root": TreeContent(tree.digest, tree.root)}


def _refuse(text: str, path: str, contexts: Mapping[str, object], args: Mapping[str, str]) -> None:
    faults = faults_of(text, path, contexts=contexts, args=args)
    if faults:
        # The executor puts the target's label before the first one's text.
        first = Fault(f"{faults[0].place}: {faults[0].text}", hint=faults[0].hint)
        raise ActionFailed(first, *faults[1:])


def _refuse_leaks(request: ToolRequest, made: Tree, contexts: Iterable[Tree | Layout]) -> None:
    """Look for what is not to be in what the Dockerfile's own steps made: layers, configuration, history."""
    check = Check("dockerfile")
    excepted, setuid = (check.texts(request.params.get(name, []), name) for name in ("not_secret", "setuid"))
    given = [each.tree for each in contexts if isinstance(each, Layout)]
    bases = [image.layers for tree in given for image in summarize_all(tree, request.store)]
    known = {layer.digest for base in bases for layer in base}
    for image in summarize_all(made, request.store):
        check_texts(check, document.decode(request.store.read(image.config)), "config")
        for layer in image.layers[max((_shared(image.layers, base) for base in bases), default=0) :]:
            if layer.digest not in known:
                known.add(layer.digest)
                with request.store.open(layer.digest) as blob:
                    check_layer(check, blob, mediatype.LAYERS[layer.media_type], excepted, setuid)
    check.finish(ActionFailed)


def _shared(layers: Sequence[LayerSummary], base: Sequence[LayerSummary]) -> int:
    """Count the layers that a base has given; BuildKit packs them again, and leaves their history."""
    pairs = list(zip(layers, base, strict=False))
    same = len(pairs) == len(base) and all(one.created_by == other.created_by for one, other in pairs)
    return len(base) if same else 0


def _below(request: ToolRequest, folder: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, content in request.inputs.items():
        if not name.startswith(f"{folder}/"):
            continue
        path = name.removeprefix(f"{folder}/")
        if isinstance(content, FileContent):
            entries[path] = File(content.digest, content.executable)
        else:
            entries.update(under(path, Tree.decode(request.store.read(content.tree)).entries))
    return entries


def _contexts(check: Check, request: ToolRequest, architectures: tuple[str, ...]) -> dict[str, Tree | Layout]:
    names = {tuple(name.split("/")[:2]) for name in request.inputs if name.startswith(("files/", "images/"))}
    found: dict[str, Tree | Layout] = {}
    for kind, name in sorted(names):
        if kind == "files":
            found[name] = Tree.of(_below(request, f"files/{name}"))
        elif image := _joined(check, name, request, architectures):
            found[name] = image
    return found


def _tree(store: BlobStore, content: TreeContent) -> Tree:
    return Tree.decode(store.read(content.tree))


def _joined(check: Check, name: str, request: ToolRequest, architectures: tuple[str, ...]) -> Layout | None:
    """Make one layout of an image's several, one an architecture: BuildKit chooses."""
    images: dict[str, tuple[ImageSummary, Tree]] = {}
    for input_, content in request.inputs.items():
        if input_.startswith(f"images/{name}/") and isinstance(content, TreeContent):
            tree = _tree(request.store, content)
            images.update({each.architecture: (each, tree) for each in summarize_all(tree, request.store)})
    lacking = [arch for arch in architectures if arch not in images]
    if lacking:
        check.fault(f"The context `{name}` has no image for [{', '.join(lacking)}]")
        return None
    named, blobs = [], set[Digest]()
    for arch in architectures:
        image, _ = images[arch]
        machine = Machine(image.architecture, image.os, image.variant)
        named.append(Descriptor(mediatype.MANIFEST, image.manifest, machine))
        blobs |= {image.manifest, image.config, *(layer.digest for layer in image.layers)}
    if len(named) == 1:
        return Layout(layout.compose(request.store, Index(tuple(named)), sorted(blobs)), named[0].digest)
    index = request.store.put(Index(tuple(named)).encode())
    outer = Index((Descriptor(mediatype.INDEX, index),))
    return Layout(layout.compose(request.store, outer, sorted({*blobs, index})), index)


def _outputs(store: BlobStore, made: Tree, architectures: tuple[str, ...], names: dict[str, str]) -> dict[str, Content]:
    """Judge what came, and name it: the manifest where there is one, an index of them where there are several."""
    images = summarize_all(made, store)
    found = [image.architecture for image in images]
    if sorted(found) != sorted(architectures):
        raise ActionFailed(f"buildx made images for [{', '.join(found)}], asked for [{', '.join(architectures)}]")
    blobs = {blob for each in images for blob in (each.manifest, each.config, *(layer.digest for layer in each.layers))}
    machines = [Machine(each.architecture, each.os, each.variant) for each in images]
    named = [
        Descriptor(mediatype.MANIFEST, each.manifest, machine) for each, machine in zip(images, machines, strict=True)
    ]
    if len(images) == 1:
        outer = Index((Descriptor(mediatype.MANIFEST, images[0].manifest, machines[0], names),))
        said = answer(store, images[0].manifest, images[0].config, machines[0])
    else:
        index = store.put(Index(tuple(named)).encode())
        blobs.add(index)
        outer = Index((Descriptor(mediatype.INDEX, index, None, names),))
        platforms = [machine.document() for machine in machines]
        table = {"manifest": index.oci, "size": index.size, "platforms": platforms}
        said = FileContent(store.put(document.encode(table)))
    tree = layout.compose(store, outer, sorted(blobs))
    layers = frozenset(layer.digest for each in images for layer in each.layers)
    validate_all(tree, store, foreign=layers)
    store.put(tree.encoded)
    return {"layout": TreeContent(tree.digest, tree.root), "digest": said}
