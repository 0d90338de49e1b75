"""Package indexes: the files that an index or a page of links offers, by name.

The Simple repository API in its JSON form (PEP 691) where a server speaks it, else in HTML (PEP 503).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from forge.net.connection import Unavailable
from forge.net.download import Downloader, Page
from forge.packages.once import Once

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file that an index offers."""

    address: str
    sha256: str = ""
    """Empty where the index does not say."""


class PackageIndex:
    """Reads indexes' pages, each of them once."""

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._pages: Once[str, Mapping[str, IndexFile]] = Once(keep=True)

    def files(self, index: str, package: str) -> Mapping[str, IndexFile]:
        """List by name the files of `package` in `index`; Missing when the index does not know it."""
        page = f"{index}/{normalize(package)}/"
        # A folder that is laid out as an index holds the page that a web server would give for the folder.
        return self.linked(page if "://" in index else f"{page}index.html")

    def linked(self, address: str) -> Mapping[str, IndexFile]:
        """List by name the files that the page at `address` links to."""
        return self._pages.get(address, lambda: _parse(self._downloader.read(address, accept=ACCEPT)))


def normalize(name: str) -> str:
    """Spell a package's name as indexes do (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parse(page: Page) -> Mapping[str, IndexFile]:
    base = page.address if "://" in page.address else Path(page.address).resolve().as_uri()
    if "json" in page.content_type:
        return _parse_json(page.data, base)
    if page.content_type and "html" not in page.content_type:
        raise Unavailable(f"Answers with `{page.content_type}`, not with an index page")
    links = _Links(base)
    links.feed(page.data.decode("utf-8", "replace"))
    return links.files


def _parse_json(data: bytes, base: str) -> Mapping[str, IndexFile]:
    try:
        document = json.loads(data)
        if not str(document["meta"]["api-version"]).startswith("1."):
            raise Unavailable(f"Speaks version {document['meta']['api-version']} of the index API, forge reads 1")
        return {
            each["filename"]: IndexFile(urljoin(base, each["url"]), str(each["hashes"].get("sha256", "")))
            for each in document["files"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable("Answers with JSON that is no index page") from error


class _Links(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.files: dict[str, IndexFile] = {}
        self._base = base

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = next((value for key, value in attrs if key == "href"), None)
        if not target:
            return
        if tag == "base":
            self._base = urljoin(self._base, target)
        elif tag == "a":
            address, fragment = urldefrag(urljoin(self._base, target))
            sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
            name = unquote(urlsplit(address).path).rpartition("/")[2]
            self.files.setdefault(name, IndexFile(address, sha256.lower()))
