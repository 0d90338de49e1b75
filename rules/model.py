"""`model`: a model's files, in the format that they come in.

What another target makes is handed on. What is fetched, or lies in the workspace, is checked first: an action in the
sandbox reads the files' headers and leaves an empty folder, which is laid under the files. That is the same tree, and
none when a header lies, so that nothing else ever reads a file that has not been checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from forge.api import (
    EVERY_ARCH,
    Annotated,
    Artifact,
    Attributes,
    BaseImage,
    Context,
    EnvironmentInfo,
    FileSource,
    ForExecution,
    Hash,
    HubSource,
    ImageSource,
    Label,
    LockRequest,
    ModelInfo,
    ModelRequest,
    ModelSource,
    Platform,
    Provider,
    Source,
    TargetLabel,
    WebSource,
    choose,
    image_document,
    is_revision,
    model_validator,
    rule,
)

_PYTHON = "//toolchains:python311"
_CHECKS = ("check_model", "fault", "gguf_header", "onnx_header", "safetensors_header")
_BESIDE = (
    "config.json",
    "generation_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""What stands beside weights and is data, not code."""
FILES: Mapping[str, tuple[str, ...]] = {
    "safetensors": ("*.safetensors", "*.safetensors.index.json", *_BESIDE),
    "gguf": ("*.gguf",),
    "onnx": ("*.onnx", "*.onnx_data", "*.onnx.data", *_BESIDE),
}
"""The files of a format that are wanted unless `files` says otherwise; an engine has none: it is made, not fetched."""


class Attrs(Attributes):
    """Attributes of `model`."""

    source: ModelSource
    """Where its files are: a target whose one output is a folder, `hf:OWNER/NAME`, `file:PATH` below the package,
    `oci:REGISTRY/REPOSITORY:TAG`, or addresses, one for each file."""
    revision: str = ""
    """Of a `hf:` source: a commit, or a branch or tag, which the lock pins to a commit."""
    format: Literal["safetensors", "gguf", "onnx", "tensorrt"] = "safetensors"
    """What the folder holds: `*.safetensors` beside `config.json` and the tokenizer, `model.gguf`, or `model.onnx`."""
    files: tuple[str, ...] = ()
    """Which files of the source, as globs; `!` before one takes away. By default those that the format needs."""
    folder: str = ""
    """Of an `oci:` source: the folder of the image in which they lie, `models` unless told."""
    allow_pickle: tuple[str, ...] = ()
    """Names of pickles to bring along all the same. Nothing reads them outside a sandbox."""
    environment: Annotated[TargetLabel | None, ForExecution()] = None
    """Locked environment with Python in which the headers of the files are checked, `//toolchains:python311`."""

    @model_validator(mode="before")
    @classmethod
    def _with_environment(cls, table: Any) -> Any:
        source = table.get("source") if isinstance(table, dict) else None
        is_target = isinstance(source, Label) or (isinstance(source, str) and source.startswith(("//", ":")))
        return table if source is None or is_target else {"environment": _PYTHON, **table}

    @model_validator(mode="after")
    def _agrees(self) -> Attrs:
        """State contradictions, in words."""
        if isinstance(self.source, HubSource):
            if not self.revision:
                raise ValueError('`hf:` needs a `revision`: a commit, or a branch such as `revision = "main"`')
            if not is_revision(self.revision):
                raise ValueError(f"`{self.revision}` cannot be a commit, branch or tag")
        elif self.revision:
            raise ValueError("`revision` is for `hf:` sources")
        if self.folder and not isinstance(self.source, ImageSource):
            raise ValueError("`folder` is for `oci:` sources")
        if self.files and not isinstance(self.source, (HubSource, FileSource, ImageSource)):
            raise ValueError("`files` is for sources that have more than is named: `hf:`, `oci:` and `file:`")
        if isinstance(self.source, WebSource):
            choose(self.source.addresses, ["**"], self.allow_pickle)
        elif self.allow_pickle and isinstance(self.source, Label):
            raise ValueError("`allow_pickle` is for what is fetched")
        elif not isinstance(self.source, Label) and not self.globs:
            raise ValueError(f"`files` is needed: {self.format} has no usual ones")
        return self

    @property
    def globs(self) -> tuple[str, ...]:
        """The globs that hold."""
        return self.files or FILES.get(self.format, ())

    @property
    def image_folder(self) -> str:
        """The folder of an image that holds."""
        return self.folder.strip("/") or "models"


def lock_requests(name: str, platform: Platform | None, attrs: Any) -> tuple[LockRequest, ...]:
    """Say which lock an instance needs: none where its files are a target's or the workspace's."""
    if not isinstance(attrs.source, (HubSource, WebSource, ImageSource)):
        return ()
    # The usual files go by one name: a lock is not stale because forge knows one more of them.
    declared = tuple(f"files {glob}" for glob in attrs.files) or (f"format {attrs.format}",)
    folder = attrs.image_folder if isinstance(attrs.source, ImageSource) else ""
    request = ModelRequest(attrs.source, attrs.revision, attrs.globs, declared, attrs.allow_pickle, folder)
    return (LockRequest(f"{name}@{platform.name}" if platform else name, "model", EVERY_ARCH, model=request),)


@rule("model", Attrs, locks=lock_requests)
def analyze(context: Context, attrs: Attrs) -> ModelInfo:
    """Hand on the folder of a target; else bring the files, lay them out and check them."""
    tree = _made(context, attrs.source) if isinstance(attrs.source, Label) else _checked(context, attrs)
    # Served under the name of its package: `weights` says nothing to a client.
    name = context.label.package.rpartition("/")[2] or context.label.name
    lock = context.lock(context.target.lock_requests[0]) if context.target.lock_requests else None
    return ModelInfo({context.label.name: tree}, name, attrs.format, tree, lock=lock)


def _made(context: Context, source: Label) -> Artifact:
    files = context.dep(source, Provider).files
    if len(files) != 1:
        raise context.error(f"`{source}` makes {len(files)} outputs, a model is one folder")
    (tree,) = files.values()
    if not getattr(tree, "output", "").endswith("/"):
        raise context.error(f"`{source}` makes a file, a model is a folder", "Give its output a `/` at the end")
    return tree


def _checked(context: Context, attrs: Attrs) -> Artifact:
    assert attrs.environment is not None
    if isinstance(attrs.source, ImageSource):
        gathered, paths = _extracted(context, attrs, attrs.source)
    else:
        files = _files(context, attrs)
        paths = _places(context, attrs, tuple(files))
        names = {f"{number:04}": path for number, path in enumerate(sorted(paths))}
        (gathered,) = context.tool(
            "tree",
            {"place": {number: paths[path] for number, path in names.items()}},
            inputs={number: files[path] for number, path in names.items()},
            outputs=["model/"],
            mnemonic="Gather",
        )
    scripts = {f"rules/actions/{name}.py": Source(f"actions/{name}.py", "rules") for name in _CHECKS}
    argv = ["/usr/bin/python3", "-m", "rules.actions.check_model", "--model", "model", "--format", attrs.format]
    for name in attrs.allow_pickle:
        argv += ["--allow-pickle", paths[name]]
    (verdict,) = context.run(
        [*argv, "--out", "out/verdict"],
        environment=context.dep(attrs.environment, EnvironmentInfo),
        inputs={"model": gathered, **scripts},
        outputs=["verdict/"],
        mnemonic="Check",
        description=f"Check the files of {context.label}",
    )
    (tree,) = context.tool(
        "tree",
        {"place": {"0": "", "1": ""}},
        inputs={"0": verdict, "1": gathered},
        outputs=["model/"],
        mnemonic="Accept",
        description=f"Accept {context.label}",
    )
    return tree


def _extracted(context: Context, attrs: Attrs, source: ImageSource) -> tuple[Artifact, dict[str, str]]:
    """Pull the image and take the locked files out of it."""
    lock = context.lock(context.target.lock_requests[0])
    name, digest = source.name, Hash(lock.revision.removeprefix("sha256:"))
    files = {each.file: each.digest.hash for each in lock.materials}
    paths = _places(context, attrs, _chosen(context, attrs, tuple(files)))
    about = {"registry": name.registry, "repository": name.repository, "tag": name.tag, "arch": EVERY_ARCH}
    pinned = context.fetch(image_document(BaseImage(name, digest), digest))
    (layout,) = context.tool("pull", about, inputs={"pinned": pinned}, outputs=["layout/"], description=f"Pull {name}")
    wanted: dict[str, Any] = {path: {"place": place, "sha256": files[path]} for path, place in sorted(paths.items())}
    params: dict[str, Any] = {"folder": attrs.image_folder, "files": wanted}
    (tree,) = context.tool("extract", params, inputs={"layout": layout}, outputs=["model/"], mnemonic="Gather")
    return tree, paths


def _files(context: Context, attrs: Attrs) -> dict[str, Artifact]:
    """Bring the files, by their paths in the source."""
    if isinstance(attrs.source, FileSource):
        below = f"{attrs.source.folder}/" if attrs.source.folder else ""
        there: dict[str, Artifact] = {
            context.below(source).removeprefix(below): source for source in attrs.source.sources
        }
        return {path: there[path] for path in _chosen(context, attrs, tuple(there))}
    materials = {each.file: each for each in context.lock(context.target.lock_requests[0]).materials}
    if isinstance(attrs.source, WebSource):
        named = attrs.source.addresses
        if materials.keys() != named.keys():
            raise context.error("The lock names other files than `source`", f"Run `forge lock {context.label}`")
        materials = {name: replace(each, path=named[name]) for name, each in materials.items()}
    else:
        materials = {path: materials[path] for path in _chosen(context, attrs, tuple(materials))}
    return {path: context.fetch(each) for path, each in materials.items()}


def _chosen(context: Context, attrs: Attrs, paths: Sequence[str]) -> tuple[str, ...]:
    try:
        return choose(paths, attrs.globs, attrs.allow_pickle)
    except ValueError as error:
        raise context.error(f"`{context.label}`: {error}") from error


def _places(context: Context, attrs: Attrs, paths: Sequence[str]) -> dict[str, str]:
    """Say where each file lies in the folder: a model that is one file has the name that its readers know."""
    if attrs.format not in ("gguf", "onnx"):
        return {path: path for path in paths}
    ends = f".{attrs.format}"
    found = [path for path in paths if path.endswith(ends)]
    if len(found) != 1:
        text = f"`{context.label}` is one `*{ends}`, its source gives {len(found)}: [{', '.join(found)}]"
        raise context.error(text, 'Name it in `files`, such as `files = ["model-q8_0.gguf"]`')
    # What lies beside it, such as the data of an ONNX file, stays beside it.
    folder = found[0].rpartition("/")[0]
    placed = {path: path.removeprefix(f"{folder}/") if folder else path for path in paths}
    return {**placed, found[0]: f"model{ends}"}
