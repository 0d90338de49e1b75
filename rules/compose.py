"""`compose`: runtime, backend, model, handler and parameters become a service for one platform."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from forge.api import (
    AppInfo,
    Artifact,
    Attributes,
    Backend,
    Context,
    EnvironmentInfo,
    Field,
    Label,
    LockRequest,
    ModelInfo,
    ParameterValue,
    PlacedFiles,
    Placement,
    Platform,
    SourceFile,
    TargetLabel,
    Unavailable,
    is_secret_name,
    place_files,
    rule,
    secret_in,
    with_byte_code,
)

APP = "opt/forge/app"
RUNTIME = "opt/forge/runtime"
MODELS = "models"
CONFIG = "etc/forge/config.json"
_PACKAGE = "forge_runtime/"
_ENTRYPOINT = ("/usr/bin/python3", "-m", "forge_runtime")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Serving(Attributes):
    """Limits of the server; what is not given is as runtime/README.md says."""

    queue_size: int | None = Field(default=None, ge=1, le=2**20)
    """Requests that may wait for the model."""
    max_items: int | None = Field(default=None, ge=1, le=2**20)
    """Prompts, pictures or rows of one request."""
    deadline_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For an answer."""
    hang_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For the model to end a run that nobody waits for any more."""
    body_limit: int | None = Field(default=None, ge=1, le=2**31)
    """Bytes of a request's body."""
    body_timeout_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For a client to send it."""
    header_timeout_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For a client to send a request's headers."""
    write_timeout_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For a client to take its answer."""
    keep_alive_s: float | None = Field(default=None, ge=0.001, le=86400)
    """For a client to ask again on its connection."""
    max_connections: int | None = Field(default=None, ge=1, le=2**20)
    """Connections at a time."""
    drain_s: float | None = Field(default=None, ge=0, le=86400)
    """For what is in flight when the server is told to stop."""
    metrics_list_size: int | None = Field(default=None, ge=1, le=10**6)
    """Requests that `/api/metrics` remembers."""
    logs: bool | None = None
    """Whether `/api/logs` is there; the container then needs `FORGE_ADMIN_TOKEN`."""
    shutdown: bool | None = None
    """Whether `/api/shutdown` is there; likewise."""


class Attrs(Attributes):
    """Attributes of `compose`."""

    models: tuple[TargetLabel, ...] = ()
    """Models on offer: each platform takes the format that its backend loads."""
    handler: SourceFile
    """Python file with `class Handler(BaseServer)`."""
    data: PlacedFiles = ()
    """Files, folders and globs that lie beside the handler, with their folders; or a table with the place of each."""
    deps: tuple[str, ...] = ()
    """Python requirements of the handler, beside what the platform has; `forge lock` pins them."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the service; no secrets."""
    secrets: tuple[str, ...] = ()
    """Names of variables whose values are given when it runs: never in the image, nor in what `forge export` writes."""
    not_secret: tuple[str, ...] = ()
    """Files, by path or glob, that look like secrets and are none."""
    mode: Literal["latency", "throughput"] = "throughput"
    """One item at a time, or `batch_size` of them."""
    port: int = Field(default=3000, ge=1, le=65535)
    """Port that it listens on."""
    serving: Serving = Field(default_factory=Serving)
    """Limits of the server."""
    params: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Parameters of the backend; `forge info platforms` lists them."""


def lock_requests(name: str, platform: Platform | None, attrs: Any) -> tuple[LockRequest, ...]:
    """Say which lock an instance needs for its `deps`: one that fits into the platform's environment."""
    if platform is None or not platform.is_service or not attrs.deps:
        return ()
    environment = Label("toolchains", platform.name)
    lock = f"{name}.{platform.name}.python"
    return (LockRequest(lock, "python", platform.arch, attrs.deps, within=environment),)


@rule("compose", Attrs, needs_toolchain=True, locks=lock_requests)
def analyze(context: Context, attrs: Attrs) -> AppInfo:
    """Choose the model, check the parameters, and lay out the service's own files."""
    toolchain = context.toolchain
    backend = toolchain.backend
    if backend is None:
        raise context.error(f"Platform `{toolchain.platform.name}` has no backend to serve with")
    for name, value in attrs.env.items():
        kind = "a secret" if is_secret_name(name) else secret_in(value)
        if kind:
            hint = "Images are shared: give secrets when the container runs"
            raise context.error(f"`env.{name}` of `{context.label}` looks like {kind}", hint)
    for name in attrs.secrets:
        if not _VARIABLE.fullmatch(name) or name in attrs.env or attrs.secrets.count(name) > 1:
            hint = "Names of variables such as `HF_TOKEN`, each once and not in `env`"
            raise context.error(f"`{name!a}` of `secrets` of `{context.label}` cannot be one", hint)
    params = _parameters(context, backend, attrs.params)
    environment = context.dep(toolchain.environment, EnvironmentInfo)
    deps = _deps(context, environment)
    model = _model(context, backend, attrs)
    config = {
        "schema": 1,
        "platform": toolchain.platform.name,
        "backend": backend.module,
        "model": {"name": model.name, "path": f"/{MODELS}/{model.name}", "format": model.format},
        "server": {
            "name": str(context.target.generator or context.label),
            "handler": context.below(attrs.handler),
            "app_dir": f"/{APP}",
            "mode": attrs.mode,
            "host": "0.0.0.0",
            "port": attrs.port,
            **{name: value for name, value in vars(attrs.serving).items() if value is not None},
        },
        "params": dict(sorted(params.items())),
    }
    files = place_files(context, [Placement((attrs.handler,)), *attrs.data], attrs.not_secret)
    environ = {
        "FORGE_CONFIG": f"/{CONFIG}",
        "HF_HOME": "/tmp/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"/{RUNTIME}",
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "TMPDIR": "/tmp",
        # torch looks for a folder to write to when it is imported, and must not fail where there is none.
        "TORCHINDUCTOR_CACHE_DIR": "/tmp",
        **dict(toolchain.environ),
        **attrs.env,
    }
    return AppInfo(
        environment=environment,
        deps=deps,
        deps_lock=context.lock(context.target.lock_requests[0]) if deps else None,
        model=model,
        runtime=_runtime(context, environment),
        app=_tree(context, files, "handler and data"),
        config=context.write("config.json", json.dumps(config, indent=2, sort_keys=True) + "\n"),
        environ=tuple(sorted(environ.items())),
        params=params,
        entrypoint=_ENTRYPOINT,
        workdir=f"/{APP}",
        port=attrs.port,
        drain_s=30.0 if attrs.serving.drain_s is None else attrs.serving.drain_s,
        secrets=attrs.secrets,
        not_secret=attrs.not_secret,
    )


def _deps(context: Context, environment: EnvironmentInfo) -> Artifact | None:
    """Unpack the handler's own packages; Unavailable where the platform has changed under their lock."""
    if not context.target.lock_requests:
        return None
    request = context.target.lock_requests[0]
    lock = context.lock(request)
    misfits = lock.misfits(environment.python_packages)
    if misfits:
        platform = f"`{context.toolchain.environment}`, {context.toolchain.place}"
        text = f"The lock `{request.file}` of `{context.label}` is stale: {'; '.join(misfits)} ({platform})"
        hint = f"Run `forge lock {context.target.generator or context.label}`"
        raise Unavailable(text, place=context.place, hint=hint)
    trees: list[Artifact] = []
    for each in lock.materials:
        params = {"format": "wheel", "name": each.file, "python": context.toolchain.python}
        file, what = {"file": context.fetch(each)}, f"Unpack {each.file}"
        trees += context.tool("unpack", params, inputs=file, outputs=["tree/"], description=what)
    if not trees:
        return None
    (tree,) = context.tool(
        "root",
        {"conflicts": "replace", "name": f"{context.label} (deps)"},
        inputs={f"{number:04}": tree for number, tree in enumerate(trees)},
        outputs=["tree/"],
        description=f"Merge deps {context.label}",
    )
    return with_byte_code(context, environment.compiler, tree, "", "deps")


def _runtime(context: Context, environment: EnvironmentInfo) -> Artifact:
    files = {each.path: each for each in context.runtime if each.path.startswith(_PACKAGE)}
    return with_byte_code(context, environment.compiler, _tree(context, files, "runtime"), RUNTIME, "runtime")


def _parameters(context: Context, backend: Backend, given: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    known = {parameter.name: parameter for parameter in backend.parameters}
    params: dict[str, ParameterValue] = {name: parameter.default for name, parameter in known.items()}
    faults = []
    for name, value in given.items():
        if name not in known:
            faults.append(f"backend `{backend.name}` takes no `{name}`, it takes [{', '.join(known)}]")
            continue
        fault = known[name].fault(value)
        if fault:
            faults.append(fault)
        params[name] = float(value) if known[name].type == "float" and not fault else value
    if faults:
        raise context.error(f"Parameters of `{context.label}`: {'; '.join(faults)}")
    return params


def _model(context: Context, backend: Backend, attrs: Attrs) -> ModelInfo:
    offered = [context.dep(label, ModelInfo) for label in attrs.models]
    for wanted in backend.formats:
        for model in offered:
            if model.format == wanted:
                return model
    formats = ", ".join(model.format for model in offered) or "nothing"
    raise context.error(
        f"Backend `{backend.name}` of `{context.label}` loads [{', '.join(backend.formats)}], "
        f"`models` offers [{formats}]",
        f'Add a `convert` target with `format = "{backend.formats[0]}"` to `models`',
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
