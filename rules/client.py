"""`client`: the load generator, with what it sends and how, for one platform without a backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from forge.api import (
    AppInfo,
    Artifact,
    Attributes,
    Context,
    EnvironmentInfo,
    Field,
    PlacedFiles,
    place_files,
    rule,
    with_byte_code,
)

_APP = "opt/forge/app"
_RUNTIME = "opt/forge/runtime"
_CONFIG = "etc/forge/config.json"
_PACKAGE = "forge_client/"
_ENTRYPOINT = ("/usr/bin/python3", "-m", "forge_client")


class Attrs(Attributes):
    """Attributes of `client`."""

    data: PlacedFiles = ()
    """Files, folders and globs that lie in its working folder, with their folders; or a table of their places."""
    dataset: str = ""
    """File or folder of `data` that is sent unless another is named."""
    api: Literal["", "infer", "completions", "chat", "oip"] = ""
    """Interface that is asked; it finds out itself where none is named."""
    concurrency: str = "1"
    """Clients at a time, as `4`, `1,2,4` or `1:8:1`."""
    requests: int = Field(default=100, ge=1)
    """Requests of each level."""
    warmup: int = Field(default=5, ge=0)
    """Requests before, which do not count."""


@rule("client", Attrs, needs_toolchain=True)
def analyze(context: Context, attrs: Attrs) -> AppInfo:
    """Lay out its files, and say what it does when it is told nothing."""
    toolchain = context.toolchain
    if toolchain.backend is not None:
        hint = 'Give it a platform without one: `platforms = ["client"]`'
        raise context.error(f"Platform `{toolchain.platform.name}` has a backend, which a client has no use for", hint)
    files = place_files(context, attrs.data)
    if attrs.dataset and not any(f"{path}/".startswith(f"{attrs.dataset.rstrip('/')}/") for path in files):
        raise context.error(f"`dataset` of `{context.label}` is `{attrs.dataset}`, which is not in its `data`")
    defaults: dict[str, str | int] = {
        "concurrency": attrs.concurrency,
        "requests": attrs.requests,
        "warmup": attrs.warmup,
        **({"api": attrs.api} if attrs.api else {}),
        **({"dataset": f"/{_APP}/{attrs.dataset}"} if attrs.dataset else {}),
    }
    config = {"schema": 1, "platform": toolchain.platform.name, "defaults": defaults}
    environ = {
        "FORGE_CLIENT_CONFIG": f"/{_CONFIG}",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"/{_RUNTIME}",
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "TMPDIR": "/tmp",
    }
    own = {source.path: source for source in context.runtime if source.path.startswith(_PACKAGE)}
    environment = context.dep(toolchain.environment, EnvironmentInfo)
    return AppInfo(
        environment=environment,
        runtime=with_byte_code(context, environment.compiler, _tree(context, own, "client"), _RUNTIME, "client"),
        app=_tree(context, files, "data"),
        config=context.write("config.json", json.dumps(config, indent=2, sort_keys=True) + "\n"),
        environ=tuple(sorted(environ.items())),
        entrypoint=_ENTRYPOINT,
        # Without data there is no such folder; one to write to is as good.
        workdir=f"/{_APP}" if files else "/tmp",
    )


def _tree(context: Context, files: Mapping[str, Artifact], what: str) -> Artifact:
    paths = sorted(files)
    names = {f"{number:04}": path for number, path in enumerate(paths)}
    (tree,) = context.tool(
        "tree",
        {"place": dict(names)},
        inputs={name: files[path] for name, path in names.items()},
        outputs=["tree/"],
        description=f"Gather {what} {context.label}",
    )
    return tree
