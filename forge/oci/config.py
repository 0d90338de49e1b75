"""The config of an image: how it runs, and which layers make its file system.

https://github.com/opencontainers/image-spec, config.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from forge.core.tool import Json
from forge.oci import document
from forge.oci.check import Check
from forge.oci.manifest import Machine

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_PORT = re.compile(r"[1-9]\d{0,4}(/(tcp|udp|sctp))?")

PARAMS: Final = (
    *("architecture", "variant", "os", "user", "env", "entrypoint", "cmd", "workdir", "ports"),
    *("labels", "created", "history", "stop_signal", "volumes"),
)
"""Parameters that `ImageConfig.read` reads."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A config that forge writes."""

    machine: Machine
    created: str
    """RFC 3339; given by the caller, never the clock."""
    history: tuple[str, ...]
    """What each layer is, in the layers' order."""
    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()

    def encode(self, diff_ids: Sequence[str]) -> bytes:
        """Write it canonically; what is empty is left out."""
        settings: dict[str, object] = {
            "User": self.user,
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "WorkingDir": self.workdir,
            "ExposedPorts": {port: {} for port in self.ports},
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Volumes": {volume: {} for volume in self.volumes},
        }
        return document.encode(
            {
                **self.machine.document(),
                "created": self.created,
                "config": {key: value for key, value in settings.items() if value},
                "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
                "history": [{"created": self.created, "created_by": text} for text in self.history],
            }
        )

    @classmethod
    def read(cls, check: Check, params: Mapping[str, Json]) -> ImageConfig:
        """Read the parameters of the tool `image`."""
        machine = {"architecture": params.get("architecture"), "os": params.get("os", "linux")}
        found = cls(
            machine=Machine.read(check, {**machine, "variant": params.get("variant", "")}, "params"),
            created=check.text(params.get("created", "1970-01-01T00:00:00Z"), "created"),
            history=check.texts(params.get("history", []), "history"),
            user=check.text(params.get("user", ""), "user"),
            env=check.texts(params.get("env", []), "env"),
            entrypoint=check.texts(params.get("entrypoint", []), "entrypoint"),
            cmd=check.texts(params.get("cmd", []), "cmd"),
            workdir=check.text(params.get("workdir", ""), "workdir"),
            ports=check.texts(params.get("ports", []), "ports"),
            labels=check.pairs(params.get("labels", {}), "labels"),
            stop_signal=check.text(params.get("stop_signal", ""), "stop_signal"),
            volumes=check.texts(params.get("volumes", []), "volumes"),
        )
        _check_values(check, found)
        return found


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """What a config, forge's or another's, says of the image's make."""

    machine: Machine
    diff_ids: tuple[str, ...]
    history: tuple[str, ...] | None
    """Of the entries that made a layer; None when the config has no history."""

    @classmethod
    def decode(cls, check: Check, encoded: bytes) -> ConfigFacts:
        """Read a config and check the types of all that engines read."""
        found = check.document(encoded)
        _check_created(check, check.text(found.get("created", "1970-01-01T00:00:00Z"), "created"))
        _check_settings(check, check.object(found.get("config", {}), "config"))
        rootfs = check.object(found.get("rootfs"), "rootfs")
        if rootfs.get("type") != "layers":
            check.fault("`rootfs.type` is not `layers`")
        diff_ids = []
        for number, value in enumerate(check.array(rootfs.get("diff_ids"), "rootfs.diff_ids")):
            diff = check.digest(value, 0, f"rootfs.diff_ids[{number}]")
            diff_ids.append(diff.oci if diff else "")
        machine = Machine.read(check, found, "config")
        return cls(machine, tuple(diff_ids), _read_history(check, found))


def _check_values(check: Check, config: ImageConfig) -> None:
    _check_created(check, config.created)
    _check_env(check, config.env)
    for port in config.ports:
        if not _PORT.fullmatch(port):
            check.fault(f"`ports` has `{port}`", "Write a number, or number and protocol: `3000/tcp`")
    for path in (*config.volumes, *([config.workdir] if config.workdir else [])):
        if not path.startswith("/"):
            check.fault(f"`{path}` is not an absolute path")


def _check_created(check: Check, created: str) -> None:
    if not _TIME.fullmatch(created):
        check.fault(f"`created` is `{created}`, not a time of RFC 3339")


def _check_env(check: Check, env: Sequence[str]) -> None:
    seen: set[str] = set()
    for variable in env:
        name, equals, _ = variable.partition("=")
        if not name or not equals or name in seen:
            check.fault(f"`env` has `{variable}`, which is not `NAME=value` or names a variable twice")
        seen.add(name)


def _check_settings(check: Check, config: Mapping[str, Json]) -> None:
    for key in ("User", "WorkingDir", "StopSignal"):
        check.text(config.get(key, ""), f"config.{key}")
    for key in ("Entrypoint", "Cmd", "Env"):
        # Docker writes null for a list that is not set.
        texts = check.texts(config.get(key) or [], f"config.{key}")
        if key == "Env":
            _check_env(check, texts)
    check.pairs(config.get("Labels") or {}, "config.Labels")
    for key in ("ExposedPorts", "Volumes"):
        for name, value in check.object(config.get(key) or {}, f"config.{key}").items():
            check.object(value, f"config.{key}.{name}")


def _read_history(check: Check, found: Mapping[str, Json]) -> tuple[str, ...] | None:
    if found.get("history") is None:
        return None
    texts = []
    for number, value in enumerate(check.array(found["history"], "history")):
        what = f"history[{number}]"
        entry = check.object(value, what)
        _check_created(check, check.text(entry.get("created", "1970-01-01T00:00:00Z"), f"{what}.created"))
        text = check.text(entry.get("created_by", ""), f"{what}.created_by")
        if not check.boolean(entry.get("empty_layer", False), f"{what}.empty_layer"):
            texts.append(text)
    return tuple(texts)
