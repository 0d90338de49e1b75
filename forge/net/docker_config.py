"""Docker's credentials: config.json and the helpers that it names, read when a registry asks.

https://docs.docker.com/reference/cli/docker/login/#credential-stores. The secrets go into requests, and into no
message, log or key.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from forge.net.connection import Unavailable

HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
HUB_KEY: Final = "https://index.docker.io/v1/"
"""Docker's own name for its Hub."""

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER: Final = "<token>"
"""In place of a name: what comes with it is a token to be exchanged, no password."""
_MISSING: Final = "credentials not found"
_PATIENCE: Final = 30.0
"""Seconds for a helper, which may have to ask somebody."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A login at a registry."""

    user: str
    password: str = field(repr=False)
    identity: str = field(default="", repr=False)
    """A token that is exchanged for others, in place of user and password."""

    @property
    def basic(self) -> str:
        """The `Authorization` of RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What `docker login` leaves, for this user."""

    environ: Mapping[str, str] = field(repr=False)

    def credential(self, host: str) -> Credential | None:
        """Find the login at a host with its port; Unavailable when Docker's set-up is at fault."""
        config, keys = self._read(), _keys(host)
        helpers = config.get("credHelpers")
        named = [helpers[key] for key in keys if key in helpers] if isinstance(helpers, dict) else []
        helper = named[0] if named else config.get("credsStore")
        if isinstance(helper, str) and helper:
            return self._ask(helper, HUB_KEY if host in HUB_HOSTS else host)
        auths = config.get("auths")
        entries = {_host(key): entry for key, entry in auths.items()} if isinstance(auths, dict) else {}
        found = next((entries[each] for each in map(_host, keys) if isinstance(entries.get(each), dict)), None)
        return _plain(found) if found is not None else None

    def _read(self) -> dict[str, Any]:
        folder = self.environ.get("DOCKER_CONFIG") or (
            f"{self.environ['HOME']}/.docker" if self.environ.get("HOME") else ""
        )
        file = Path(folder) / "config.json"
        try:
            found = json.loads(file.read_bytes()) if folder else {}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise Unavailable(f"Docker's `{file.name}` cannot be read ({type(error).__name__})") from None
        return found if isinstance(found, dict) else {}

    def _ask(self, helper: str, server: str) -> Credential | None:
        name = f"docker-credential-{helper}"
        program = shutil.which(name, path=self.environ.get("PATH", "")) if _HELPER.fullmatch(helper) else None
        if program is None:
            raise Unavailable(f"Docker's configuration names `{name}`, which is not there")
        try:
            run = subprocess.run(
                [program, "get"],
                input=server.encode(),
                capture_output=True,
                env=dict(self.environ),
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            raise Unavailable(f"`{name}` does not answer") from None
        if run.returncode:
            # Of its words none is repeated: they may hold what it knows.
            if _MISSING in (run.stdout + run.stderr).decode(errors="replace").lower():
                return None
            raise Unavailable(f"`{name}` ends with {run.returncode}")
        return _answered(name, run.stdout)


def _answered(name: str, output: bytes) -> Credential | None:
    try:
        found = json.loads(output)
        user, secret = found["Username"], found["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unavailable(f"`{name}` gives no login that can be read") from None
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        return None
    return Credential("", "", secret) if user == _TOKEN_USER else Credential(user, secret)


def _plain(entry: Mapping[str, Any]) -> Credential | None:
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return Credential("", "", token)
    user, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except ValueError:
            raise Unavailable("An `auth` of Docker's configuration cannot be read") from None
    return Credential(user, password) if isinstance(user, str) and user and isinstance(password, str) else None


def _keys(host: str) -> tuple[str, ...]:
    return (HUB_KEY, *sorted(HUB_HOSTS)) if host in HUB_HOSTS else (host, f"https://{host}", f"http://{host}")


def _host(key: str) -> str:
    """Cut a key of `auths` down to its host, as Docker does: older versions wrote addresses."""
    return re.sub(r"^https?://", "", key).partition("/")[0]
