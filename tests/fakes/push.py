"""The half of a registry that takes what is pushed, and its faults."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.registry import Registry, reply


@dataclass
class Writable:
    """Blobs by repository, and uploads on their way."""

    holds: dict[str, set[str]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    mounts: bool = True
    refuses_mounts: bool = False
    """Whether it is an error to ask for one."""
    lists: bool = False
    """Whether it lists referrers."""
    uploads_address: str = ""
    """Another host, to which uploads are sent; empty for the registry itself."""
    lies: str = ""
    """The digest that it answers, whatever it was given."""
    breaks: list[int] = field(default_factory=list)
    """Bytes of a body after which it hangs up, once each."""
    received: int = 0
    """Bytes of blobs that came over the line."""
    puts: list[str] = field(default_factory=list)
    """References under which documents were put, in order."""

    def answer(self, registry: Registry, handler: BaseHTTPRequestHandler) -> bool:
        """Answer a request that writes, or asks what was written."""
        path, method = urlsplit(handler.path).path, handler.command
        if "/blobs/uploads/" in path:
            repository, _, upload = path.removeprefix("/v2/").partition("/blobs/uploads/")
            self._upload(registry, handler, repository, upload)
        elif "/blobs/" in path and method == "HEAD":
            repository, _, digest = path.removeprefix("/v2/").partition("/blobs/")
            reply(handler, 200 if digest in self.holds.get(repository, ()) else 404, b"")
        elif "/manifests/" in path and method == "PUT":
            repository, _, reference = path.removeprefix("/v2/").partition("/manifests/")
            self._document(registry, handler, repository, reference)
        elif "/manifests/" in path and method == "HEAD":
            repository, _, reference = path.removeprefix("/v2/").partition("/manifests/")
            digest = registry.tags.get((repository, reference), reference)
            found = digest in registry.documents
            reply(handler, 200 if found else 404, b"", {"Docker-Content-Digest": digest} if found else {})
        elif "/referrers/" in path:
            reply(handler, 200 if self.lists else 404, self._referrers(registry, path.rpartition("/")[2]))
        else:
            return False
        return True

    def _referrers(self, registry: Registry, digest: str) -> bytes:
        manifests = []
        for name, (media_type, data) in registry.documents.items():
            value = json.loads(data)
            if value.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": media_type, "digest": name, "size": len(data)}
                manifests.append({**entry, "artifactType": value["artifactType"]})
        return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()

    def _upload(self, registry: Registry, handler: BaseHTTPRequestHandler, repository: str, upload: str) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()}
        place = {"Location": f"{self.uploads_address}/v2/{repository}/blobs/uploads/{upload}"}
        if handler.command == "POST":
            if self.refuses_mounts and "mount" in query:
                refuse(handler, 405, "UNSUPPORTED")
                return
            if self.mounts and query.get("mount") in self.holds.get(query.get("from", ""), ()):
                self.holds.setdefault(repository, set()).add(query["mount"])
                reply(handler, 201, b"", {"Location": "/there"})
                return
            upload = f"u{len(self.uploads)}"
            self.uploads[upload] = bytearray()
            reply(handler, 202, b"", {"Location": f"{place['Location']}{upload}?state=x"})
            return
        if upload not in self.uploads:
            refuse(handler, 404, "BLOB_UPLOAD_UNKNOWN")
            return
        kept = self.uploads[upload]
        ranged = {"Range": f"0-{max(0, len(kept) - 1)}", **place}
        begin = int(handler.headers.get("Content-Range", f"{len(kept)}-").partition("-")[0])
        if handler.command == "GET":
            reply(handler, 204, b"", ranged)
        elif begin != len(kept):
            reply(handler, 416, b"", ranged)
        elif self._take(handler, kept):
            if handler.command == "PATCH":
                reply(handler, 202, b"", {"Range": f"0-{max(0, len(kept) - 1)}", **place})
            elif query["digest"] != (digest := f"sha256:{hashlib.sha256(kept).hexdigest()}"):
                refuse(handler, 400, "DIGEST_INVALID")
            else:
                registry.blobs[digest] = bytes(self.uploads.pop(upload))
                self.uploads[f"done-{upload}"] = bytearray()  # names are not used twice
                self.holds.setdefault(repository, set()).add(digest)
                reply(handler, 201, b"", {"Docker-Content-Digest": self.lies or digest})

    def _take(self, handler: BaseHTTPRequestHandler, kept: bytearray) -> bool:
        length = int(handler.headers.get("Content-Length", 0))
        limit = self.breaks.pop(0) if self.breaks and length else length
        data = handler.rfile.read(min(length, limit))
        kept += data
        self.received += len(data)
        if limit < length:
            handler.connection.shutdown(2)
            handler.close_connection = True
        return limit >= length

    def _document(self, registry: Registry, handler: BaseHTTPRequestHandler, repository: str, reference: str) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        value: dict[str, Any] = json.loads(data)
        needed = [each["digest"] for each in (*value.get("layers", ()), *filter(None, [value.get("config")]))]
        lacking = set(needed) - self.holds.get(repository, set())
        lacking |= {each["digest"] for each in value.get("manifests", ())} - set(registry.documents)
        if lacking:
            refuse(handler, 400, "MANIFEST_BLOB_UNKNOWN")
            return
        self.puts.append(reference)
        described = registry.document_bytes(value["mediaType"], data)
        if not reference.startswith("sha256:"):
            registry.tags[repository, reference] = described
        answered = {"Docker-Content-Digest": self.lies or described}
        if self.lists and "subject" in value:
            answered["OCI-Subject"] = value["subject"]["digest"]
        reply(handler, 201, b"", answered)


def refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    """Answer with an error as the distribution API writes it."""
    reply(handler, status, json.dumps({"errors": [{"code": code, "message": "no"}]}).encode())
