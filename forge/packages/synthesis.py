"""What maintainer scripts would have made in a root file system, made without running them.

Links of the merged /usr, alternatives, the account files, the bundle of certificates. Nothing that a package
brings itself is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from forge.core.blob import BlobStore
from forge.core.tree import Entries, Entry, File, Folder, Symlink
from forge.packages.deb import MERGED

_APPLETS = """
[ arch ash awk base64 basename bunzip2 bzcat bzip2 cat chgrp chmod chown clear cmp cp cpio cut date dd df diff
dirname du echo egrep env expand expr factor false fgrep find fold free grep groups gunzip gzip head hexdump
hostname id kill less link ln logname ls lzcat md5sum mkdir mkfifo mktemp more mv nl nproc od paste patch
pidof printf ps pwd readlink realpath rev rm rmdir sed seq setsid sh sha1sum sha256sum sha512sum shuf sleep
sort stat strings stty sync tac tail tar tee test timeout touch tr true truncate tty uname unexpand uniq
unlink unlzma unxz unzip uptime vi watch wc wget which whoami xargs xxd xz xzcat yes zcat
"""

APPLETS = tuple(_APPLETS.split())
"""Those applets of Debian's busybox-static 1.35 that a build or a person may call."""

ALTERNATIVES = (
    ("usr/bin/sh", ("dash", "bash", "busybox")),
    ("usr/bin/awk", ("gawk", "mawk", "original-awk")),
    ("usr/bin/gcc", (re.compile(r"gcc-\d+"),)),
    ("usr/bin/g++", (re.compile(r"g\+\+-\d+"),)),
    ("usr/bin/cc", ("gcc", re.compile(r"gcc-\d+"))),
    ("usr/bin/c++", ("g++", re.compile(r"g\+\+-\d+"))),
    ("usr/bin/which", ("which.debianutils",)),
    ("usr/bin/python3", (re.compile(r"python3\.\d+"),)),
)
"""Links that scripts make, and what each may point to: the first kind that is there, its highest version."""

FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/sbin", "var/tmp")

_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_CERTIFICATE = re.compile(r"usr/(local/)?share/ca-certificates/.+\.crt")

_TEXTS = {
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
""",
    "etc/group": "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
""",
}


def synthesize(entries: Entries, store: BlobStore, *, applets: bool) -> dict[str, Entry]:
    """Make what `entries` lack; texts go to `store`."""
    made: dict[str, Entry] = {path: Folder() for path in FOLDERS if path not in entries}
    made.update(_merged_links(entries))
    made.update(_alternatives(entries))
    if applets and "usr/bin/busybox" in entries:
        links = {f"usr/bin/{name}": Symlink("busybox") for name in APPLETS}
        made.update({path: link for path, link in links.items() if path not in entries and path not in made})
    texts = {path: text.encode() for path, text in _TEXTS.items()}
    if bundle := _certificates(entries, store):
        texts[_BUNDLE] = bundle
        made.update(_certificate_links(entries))
    made.update({path: File(store.put(text)) for path, text in texts.items() if path not in entries})
    if "usr/lib/os-release" in entries and "etc/os-release" not in entries:
        made["etc/os-release"] = Symlink("../usr/lib/os-release")
    return made


def _merged_links(entries: Entries) -> Iterator[tuple[str, Entry]]:
    """Link bin, lib and sbin always, the others where a package filled them."""
    present = {path.split("/")[1] for path in entries if path.startswith("usr/") and path.count("/") > 1}
    for name in MERGED:
        if name in entries or (name not in ("bin", "lib", "sbin") and name not in present):
            continue
        yield name, Symlink(f"usr/{name}")


def _alternatives(entries: Entries) -> dict[str, Entry]:
    names = [path.removeprefix("usr/bin/") for path in entries if path.startswith("usr/bin/")]
    made: dict[str, Entry] = {}
    for path, candidates in ALTERNATIVES:
        if path in entries:
            continue
        for candidate in candidates:
            if isinstance(candidate, str):
                found = [candidate] if candidate in names else []
            else:
                found = sorted((name for name in names if candidate.fullmatch(name)), key=_version)
            if found:
                made[path] = Symlink(found[-1])
                break
    return made


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _certificates(entries: Entries, store: BlobStore) -> bytes:
    """Join the certificates, sorted by path, each on lines of its own."""
    found = [
        entry for path, entry in sorted(entries.items()) if _CERTIFICATE.fullmatch(path) and isinstance(entry, File)
    ]
    return b"".join(store.read(entry.digest).rstrip(b"\n") + b"\n" for entry in found)


def _certificate_links(entries: Entries) -> Iterator[tuple[str, Entry]]:
    """Put the bundle where Debian's OpenSSL looks; the folder belongs to a package that is not needed otherwise."""
    if "usr/lib/ssl/cert.pem" not in entries:
        yield "usr/lib/ssl/cert.pem", Symlink(f"/{_BUNDLE}")
    if not any(path == "usr/lib/ssl/certs" or path.startswith("usr/lib/ssl/certs/") for path in entries):
        yield "usr/lib/ssl/certs", Symlink("/etc/ssl/certs")
