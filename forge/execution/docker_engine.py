"""A Docker engine, by its API.

The SDK is imported when an engine is first spoken to, so that no other command pays for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from forge.core.errors import HostError
from forge.execution.container import LABEL, Container

_HINT: Final = "See `docker version`: start an engine, or say where it is by DOCKER_HOST or `docker context use`"
_PATIENCE: Final = 600
"""Seconds for an answer of the engine: a large root, once it is there, is unpacked before it answers."""
_STOPPED: Final = 30
"""Seconds in which a killed container is to be gone."""
_GONE: Final = (404, 409)
"""What the engine says of what is not there, or is just going."""


class DockerEngine:
    """A Docker engine: the one that `docker` itself would speak to."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._api = _connect(environ)
        with _said():
            self._about: Mapping[str, Any] = self._api.version()
            self._memory = int(self._api.info().get("MemTotal") or 0)

    @property
    def arch(self) -> str:
        """Architecture of what it runs; HostError where that is not Linux."""
        if self._about.get("Os") != "linux":
            raise HostError(f"The Docker engine runs containers of {self._about.get('Os')}, not of Linux", hint=_HINT)
        return str(self._about.get("Arch"))

    def has_image(self, name: str) -> bool:
        """Say whether it has an image."""
        with _said(404) as outcome:
            self._api.inspect_image(name)
        return not outcome

    def import_image(self, name: str, chunks: Iterator[bytes]) -> None:
        """Make an image of a tar archive; HostError where it is not there then."""
        repository, _, tag = name.partition(":")
        with _said():
            told = self._api.import_image_from_stream(chunks, repository=repository, tag=tag)
        if not self.has_image(name):
            raise HostError(f"The Docker engine did not take `{name}`: {str(told).strip()[-500:]}", hint=_HINT)

    def images(self, repository: str) -> list[str]:
        """List the names of the images of a repository."""
        with _said():
            found = self._api.images(name=repository)
        return sorted(str(tag) for image in found for tag in image["RepoTags"] or ())

    def remove_image(self, name: str) -> bool:
        """Remove an image; False where a container needs it."""
        with _said(*_GONE) as outcome:
            self._api.remove_image(name, force=False)
        return not outcome

    def create(self, container: Container) -> str:
        """Make a container, which does not run yet; its id."""
        binds = {name: {"bind": path, "mode": "rw" if writable else "ro"} for name, path, writable in container.mounts}
        with _said():
            host = self._api.create_host_config(
                binds=binds,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                network_mode="none",
                # What the engine writes into /etc/resolv.conf says nothing of this machine.
                dns=["127.0.0.1"],
                dns_search=["."],
                read_only=container.read_only,
                tmpfs={"/sys": "ro,size=4k"},
                shm_size=self._memory // 2 or None,
                # A first process that reaps, dies with the command, and tells which signal that died of.
                init=True,
                log_config={"Type": "none"},
            )
            made = self._api.create_container(
                container.image,
                entrypoint=list(container.argv),
                command=[],
                environment=[*(f"{name}={value}" for name, value in sorted(container.env.items())), "HOSTNAME"],
                user=container.user or None,
                working_dir=container.workdir,
                labels=dict(container.labels),
                volumes=list(container.volumes),
                hostname="forge",
                host_config=host,
                healthcheck={"test": ["NONE"]},
            )
        return str(made["Id"])

    def volumes(self, name: str) -> Mapping[str, str]:
        """Name a container's volumes by folder."""
        with _said():
            mounts = self._api.inspect_container(name)["Mounts"]
        return {str(mount["Destination"]): str(mount["Name"]) for mount in mounts if mount["Type"] == "volume"}

    def put(self, name: str, chunks: Iterator[bytes]) -> None:
        """Unpack a tar archive at a container's root."""
        with _said():
            self._api.put_archive(name, "/", chunks)

    def run(self, name: str, timeout: int, output: Callable[[bytes], None]) -> int | None:
        """Run a container to its end; its exit code, or None when its time was up."""
        from requests.exceptions import ConnectionError, ReadTimeout

        with _said():
            stream = self._api.attach(name, stdout=True, stderr=True, stream=True)
            reader = threading.Thread(target=_pump, args=(stream, output), daemon=True)
            reader.start()
            self._api.start(name)
            try:
                code = int(self._api.wait(name, timeout=timeout)["StatusCode"])
            except (ReadTimeout, ConnectionError) as error:
                if isinstance(error, ConnectionError) and "timed out" not in str(error).lower():
                    raise
                self.kill(name)
                self._api.wait(name, timeout=_STOPPED)
                code = None
            reader.join(_STOPPED)
            return code

    def take(self, name: str, path: str) -> Iterator[bytes]:
        """Read a folder of a container as a tar archive with that folder at its top."""
        with _said():
            chunks, _ = self._api.get_archive(name, path)
            yield from chunks

    def kill(self, name: str) -> None:
        """End a container at once, if it runs."""
        with _said(*_GONE):
            self._api.kill(name)

    def remove(self, name: str) -> None:
        """End a container and remove it with its volumes; nothing where it is gone."""
        with _said(*_GONE):
            self._api.remove_container(name, v=True, force=True)

    def containers(self) -> list[tuple[str, Mapping[str, str]]]:
        """List forge's containers, ended or not, with their labels."""
        with _said():
            found = self._api.containers(all=True, filters={"label": LABEL})
        return [(str(each["Id"]), dict(each["Labels"] or {})) for each in found]


def _connect(environ: Mapping[str, str]) -> Any:
    """Find the engine as Docker's own command does: DOCKER_HOST, DOCKER_CONTEXT, the chosen context."""
    import docker
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    with _said():
        given = kwargs_from_env(dict(environ))
        if "base_url" not in given:
            context = ContextAPI.get_context(environ.get("DOCKER_CONTEXT") or None)
            if context is None:
                raise HostError("The context that Docker is to use is not there", hint="See `docker context ls`")
            given = {"base_url": context.Host, "tls": context.TLSConfig, **given}
        is_ssh = str(given.get("base_url") or "").startswith("ssh:")
        return docker.APIClient(**given, version="auto", timeout=_PATIENCE, use_ssh_client=is_ssh)


@contextmanager
def _said(*expected: int) -> Iterator[list[int]]:
    """Turn what the SDK raises into HostError; a status that is expected is noted instead."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    noted: list[int] = []
    try:
        yield noted
    except APIError as error:
        if error.status_code not in expected:
            raise _host_error(error) from error
        noted.append(error.status_code)
    except (DockerException, RequestException) as error:
        raise _host_error(error) from error


def _host_error(error: Exception) -> HostError:
    said = str(getattr(error, "explanation", "") or error)
    if "Permission denied" in said or "PermissionError" in said:
        hint = "Its socket is not open to you: join the group `docker`, and log in again"
        return HostError("No Docker engine: permission denied", hint=hint)
    if "Connection aborted" in said or "Error while fetching server API version" in said:
        return HostError("No Docker engine answers", hint=_HINT)
    return HostError(f"The Docker engine refuses: {said.strip()[-1000:]}", hint=_HINT)


def _pump(stream: Iterable[bytes], output: Callable[[bytes], None]) -> None:
    for chunk in stream:
        output(chunk)
