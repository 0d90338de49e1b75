"""`wheel`: a locked sdist becomes a wheel, built in a locked compiler environment."""

from __future__ import annotations

import json
from typing import Any

from forge.api import (
    Annotated,
    Attributes,
    Context,
    EnvironmentInfo,
    Field,
    ForExecution,
    LockRequest,
    Platform,
    Source,
    TargetLabel,
    WheelInfo,
    rule,
)

_SCRIPT = Source("actions/build_wheel.py", "rules")


class Attrs(Attributes):
    """Attributes of `wheel`."""

    sdist: str = Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")
    """Source distribution, `name==version`."""
    environment: Annotated[TargetLabel, ForExecution()]
    """Environment with the compilers and the build backend."""
    tag: str = Field(pattern=r"^[a-z0-9_.]+-[a-z0-9_]+-[a-z0-9_]+$")
    """Tags of the wheel that comes out: `py3-none-linux_x86_64`."""
    build: str = Field(default="", pattern=r"^([0-9][a-z0-9_.]*)?$")
    """Build tag of the wheel, a digit first: tells it from another build of the same archive, `1cuda`."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Config settings of the build backend."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the build."""
    exclude: tuple[str, ...] = ()
    """Files to leave out of the wheel, as globs: what it holds twice."""
    timeout: int = Field(default=7200, gt=0)
    """Seconds."""


def lock_requests(name: str, platform: Platform | None, attrs: Any) -> tuple[LockRequest, ...]:
    """Say which lock an instance needs: the same archive for every architecture."""
    return (LockRequest(f"{name}.sdist", "sdist", "amd64", (attrs.sdist,)),)


@rule("wheel", Attrs, locks=lock_requests)
def analyze(context: Context, attrs: Attrs) -> WheelInfo:
    """Ask for the archive and for the one action that builds it."""
    (material,) = context.lock(context.target.lock_requests[0]).materials
    version = "-".join(filter(None, (material.version, attrs.build)))
    file = f"{material.name.replace('-', '_')}-{version}-{attrs.tag}.whl"
    argv = ["/usr/bin/python3", "build_wheel.py", "--sdist", material.file, "--out", f"out/{file}"]
    argv += ["--settings", json.dumps(attrs.settings, sort_keys=True), "--tag", attrs.tag.rpartition("-")[2]]
    for glob in attrs.exclude:
        argv += ["--exclude", glob]
    (wheel,) = context.run(
        argv,
        environment=context.dep(attrs.environment, EnvironmentInfo),
        inputs={"build_wheel.py": _SCRIPT, material.file: context.fetch(material)},
        outputs=[file],
        env=attrs.env,
        mnemonic="Wheel",
        description=f"Build {file}",
        timeout=attrs.timeout,
    )
    return WheelInfo({file: wheel}, wheel, file, material)
