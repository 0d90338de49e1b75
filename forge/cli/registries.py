"""A registry's addresses, ready to be asked: what `[sources]` says, with Docker's logins."""

from __future__ import annotations

from forge.net.connection import Connection
from forge.net.docker_config import DockerConfig
from forge.net.download import Downloader
from forge.net.login import RegistryLogin
from forge.oci.registry import Registry
from forge.packages.sources import Sources


def registries(sources: Sources, registry: str) -> list[Registry]:
    """List the addresses of a registry, in the order in which to try them; folders know no tags."""
    connection = Connection(sources.environ)
    login = RegistryLogin(DockerConfig(sources.environ), connection)
    transfer = Downloader(None, connection=connection)
    return [Registry(place.address, transfer, login) for place in sources.places(registry) if place.folder is None]
