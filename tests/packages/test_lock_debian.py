"""Locks of Debian packages out of archives on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import lzma
import shutil
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forge.core.errors import HostError, MaterialError
from forge.core.lock_text import parse, render
from forge.packages.lock_debian import DebianRequest, lock_debian
from forge.packages.release_debian import Trust
from forge.packages.sources import Sources
from forge.packages.upgrade import Upgrade
from tests.packages.test_resolve_debian import packages_file

KEY = (
    "mDMEawDvgBYJKwYBBAHaRw8BAQdAnlSn7eXu8pRHrk5NVz74vcH+aOTUqbRptdroUxphk920CmZvcmdlIHRlc3SIkAQTFggAOBYh"
    "BEtrmKYp4Y3SJmyiiiooN4ynzKsLBQJrAO+AAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJECooN4ynzKsLwmkBAOCr0scO"
    "p0PkTPLfKzAuW5ONC3WvmiUBBD2NkvfrrG6xAP4riYUqnq76OHiDX3E4Xs48CSpE/MASgIZsxtR61x+fCw=="
)
"""A key made for this test and thrown away; it signed SIGNED."""
SIGNED = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Test
Suite: test
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQRLa5imKeGN0iZsoooqKDeMp8yrCwUCawDvgAAKCRAqKDeMp8yr
C0knAQDBnQMFQJAS7wFRvmuChOdOKRyKbYUHfzXSH2a39PIoeAD/b/5SomBJepf0
3aPIOykRsFX2fPKEllJbBmqLcAKouAY=
=grDM
-----END PGP SIGNATURE-----
"""

UNSIGNED = Trust(None)
REQUEST = DebianRequest(("a",), suites=("stable",), trust=UNSIGNED)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Mirror:
    """An unsigned archive in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources = Sources.read({"debian": str(folder)}, {"PIP_NO_INDEX": "1"}, etc=folder / "etc")

    def suite(self, name: str, *stanzas: str, arch: str = "amd64", form: str = ".xz", by_hash: bool = False) -> Path:
        text = packages_file(*stanzas).encode()
        data = lzma.compress(text) if form == ".xz" else gzip.compress(text) if form == ".gz" else text
        sha256 = hashlib.sha256(data).hexdigest()
        folder = self.folder / "dists" / name
        file = (
            folder / f"main/binary-{arch}/by-hash/SHA256/{sha256}"
            if by_hash
            else folder / f"main/binary-{arch}/Packages{form}"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        release = folder / "Release"
        lines = release.read_text() if release.exists() else "Suite: x\nSHA256:\n"
        release.write_text(f"{lines} {sha256} {len(data)} main/binary-{arch}/Packages{form}\n")
        return file


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def test_a_lock_names_the_files_of_the_closure(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1:2%3a; Depends: b", "b 1", "c 1")
    lock = lock_debian(replace(REQUEST, exclude=("x",)), mirror.sources)
    first = lock.materials[0]

    assert (lock.kind, lock.arch, lock.requested) == ("deb", "amd64", ("-x", "a"))
    assert [each.name for each in lock.materials] == ["a", "b"]
    assert (first.file, first.path, first.suite, first.source) == (
        "a_1:2:.deb",
        "pool/a_1:2%3a.deb",
        "stable",
        "debian",
    )


def test_a_lock_can_be_read_again_and_repeats(mirror: Mirror) -> None:
    import tomllib

    mirror.suite("stable", "a 1; Depends: b", "b 1")
    text = render(lock_debian(REQUEST, mirror.sources))

    assert parse(tomllib.loads(text)) == lock_debian(REQUEST, mirror.sources)
    assert str(mirror.folder) not in text


@pytest.mark.parametrize("form", [".xz", ".gz", ""], ids=["xz", "gz", "plain"])
@pytest.mark.parametrize("by_hash", [False, True], ids=["by name", "by hash"])
def test_every_form_of_index_is_read(mirror: Mirror, form: str, by_hash: bool) -> None:
    mirror.suite("stable", "a 1", form=form, by_hash=by_hash)

    assert [each.name for each in lock_debian(REQUEST, mirror.sources).materials] == ["a"]


def test_another_architecture_needs_only_its_index(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1", arch="arm64")
    lock = lock_debian(replace(REQUEST, arch="arm64"), mirror.sources)

    assert (lock.arch, lock.materials[0].name) == ("arm64", "a")


def test_the_first_suite_goes_first(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    mirror.suite("security", "a 2")
    lock = lock_debian(replace(REQUEST, suites=("stable", "security")), mirror.sources)

    assert [(each.version, each.suite) for each in lock.materials] == [("1", "stable")]


def test_the_present_versions_are_kept(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    present = lock_debian(REQUEST, mirror.sources)
    shutil.rmtree(mirror.folder / "dists")
    mirror.suite("stable", "a 1", "a 2")

    assert lock_debian(REQUEST, mirror.sources, previous=present) == present
    assert lock_debian(REQUEST, mirror.sources).materials[0].version == "2"


def test_an_index_that_is_not_what_the_release_says_is_refused(mirror: Mirror) -> None:
    file = mirror.suite("stable", "a 1")
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(MaterialError, match="is not what the Release file says"):
        lock_debian(REQUEST, mirror.sources)


def test_a_suite_that_is_nowhere_names_the_source(mirror: Mirror) -> None:
    with pytest.raises(MaterialError, match="Cannot read suite `stable` from source `debian`") as caught:
        lock_debian(REQUEST, mirror.sources)

    assert "[sources]" in caught.value.faults[0].hint


def test_an_architecture_that_a_suite_lacks_is_told(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    with pytest.raises(MaterialError, match="no packages in `main/binary-arm64`"):
        lock_debian(replace(REQUEST, arch="arm64"), mirror.sources)


def test_what_is_asked_for_cannot_be_excluded(mirror: Mirror) -> None:
    with pytest.raises(MaterialError, match=r"both asked for and excluded: \[a\]"):
        lock_debian(replace(REQUEST, exclude=("a",)), mirror.sources)


def test_an_unsigned_archive_is_told_of(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    warnings: list[str] = []
    lock_debian(REQUEST, mirror.sources, warn=warnings.append)

    assert warnings == ["The Release file of `stable` is not signed"]


def test_a_signature_that_is_not_to_be_checked_is_told_of(mirror: Mirror) -> None:
    signed_suite(mirror, SIGNED)
    warnings: list[str] = []
    with pytest.raises(MaterialError, match="provides `a`"):
        lock_debian(REQUEST, mirror.sources, warn=warnings.append)

    assert warnings == ["The signature of `stable` is not checked"]


def test_without_the_means_to_check_a_signature_nothing_is_locked(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_suite(mirror, SIGNED)
    with pytest.raises(HostError, match=r"cannot be checked: there is no `.*nothing\.gpg`|`gpgv` is not installed"):
        lock_debian(replace(REQUEST, trust=Trust(mirror.folder / "nothing.gpg")), mirror.sources)
    monkeypatch.setenv("PATH", str(mirror.folder))
    with pytest.raises(HostError, match="cannot be checked: `gpgv` is not installed") as caught:
        lock_debian(replace(REQUEST, trust=Trust(keyring_file(mirror))), mirror.sources)

    assert caught.value.faults[0].hint == (
        "`apt install gpgv debian-archive-keyring`, or `forge lock --unsigned` to trust whoever answers"
    )


@pytest.mark.skipif(not shutil.which("gpgv"), reason="needs gpgv")
def test_a_signature_by_an_unknown_key_names_it(mirror: Mirror) -> None:
    signed_suite(mirror, SIGNED)
    keyring = mirror.folder / "other.gpg"
    keyring.write_bytes(b"")
    with pytest.raises(MaterialError, match=r"it is by the key 2A283784?[0-9A-F]+, which `.*other\.gpg` does not have"):
        lock_debian(replace(REQUEST, trust=Trust(keyring)), mirror.sources)


def dated(mirror: Mirror, *fields: str) -> None:
    """Date the Release file of a suite that is there."""
    release = mirror.folder / "dists/stable/Release"
    kept = [line for line in release.read_text().splitlines() if not line.startswith(("Date", "Valid"))]
    release.write_text("\n".join([*fields, *kept]) + "\n")


def test_an_archive_past_its_time_is_refused_unless_that_is_wanted(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    dated(mirror, "Valid-Until: Sun, 31 May 2026 23:00:00 UTC")
    trust = Trust(None, now=lambda: NOW)
    with pytest.raises(MaterialError, match=r"`stable` is out of date: it was valid until 2026-05-31T23:00:00Z"):
        lock_debian(replace(REQUEST, trust=trust), mirror.sources)

    assert lock_debian(replace(REQUEST, trust=replace(trust, refuse_expired=False)), mirror.sources).materials
    dated(mirror, "Valid-Until: Mon, 1 Jun 2026 00:00:01 +0000")
    assert lock_debian(replace(REQUEST, trust=trust), mirror.sources).materials


def test_an_archive_is_not_taken_back_in_time(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    dated(mirror, "Date: Sat, 16 May 2026 09:00:00 UTC")
    lock = lock_debian(REQUEST, mirror.sources)
    assert lock.released == (("stable", "2026-05-16T09:00:00Z"),)
    assert parse(tomllib.loads(render(lock))) == lock

    dated(mirror, "Date: Fri, 15 May 2026 09:00:00 UTC")
    everything = Upgrade(everything=True)
    expected = r"is of 2026-05-15T09:00:00Z, older than that of the lock, 2026-05-16T09:00:00Z"
    with pytest.raises(MaterialError, match=expected):
        lock_debian(REQUEST, mirror.sources, previous=lock, upgrade=everything)
    dated(mirror)
    with pytest.raises(MaterialError, match="has no date, the lock was made from that of 2026"):
        lock_debian(REQUEST, mirror.sources, previous=lock)


def test_a_newer_date_alone_changes_no_lock(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    dated(mirror, "Date: Sat, 16 May 2026 09:00:00 UTC")
    lock = lock_debian(REQUEST, mirror.sources)
    dated(mirror, "Date: Sun, 17 May 2026 09:00:00 UTC")

    assert lock_debian(REQUEST, mirror.sources, previous=lock, upgrade=Upgrade(everything=True)) == lock


def test_a_date_that_is_none_is_refused(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    dated(mirror, "Date: yesterday")
    with pytest.raises(MaterialError, match="`Date` of the Release file is no date: `yesterday`"):
        lock_debian(REQUEST, mirror.sources)


def test_one_package_is_upgraded_alone(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1; Depends: b", "b 1")
    lock = lock_debian(REQUEST, mirror.sources)
    shutil.rmtree(mirror.folder / "dists")
    mirror.suite("stable", "a 1; Depends: b", "a 2; Depends: b", "b 1", "b 2")
    made = lock_debian(REQUEST, mirror.sources, previous=lock, upgrade=Upgrade(packages=frozenset("b")))

    assert [(each.name, each.version) for each in made.materials] == [("a", "1"), ("b", "2")]


def test_a_package_that_left_its_archive_gives_way_to_the_version_that_is_there(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    lock = lock_debian(REQUEST, mirror.sources)
    shutil.rmtree(mirror.folder / "dists")
    mirror.suite("stable", "a 2")

    assert [each.version for each in lock_debian(REQUEST, mirror.sources, previous=lock).materials] == ["2"]


@pytest.mark.skipif(not shutil.which("gpgv"), reason="needs gpgv")
def test_a_valid_signature_is_believed(mirror: Mirror) -> None:
    signed_suite(mirror, SIGNED)
    with pytest.raises(MaterialError, match="provides `a`"):  # the index was read, and is empty
        lock_debian(replace(REQUEST, trust=Trust(keyring_file(mirror))), mirror.sources)


@pytest.mark.skipif(not shutil.which("gpgv"), reason="needs gpgv")
@pytest.mark.parametrize(
    "text",
    [SIGNED.replace("Suite: test", "Suite: tost"), SIGNED[:300], "Suite: x\n", ""],
    ids=["changed", "cut", "unsigned", "empty"],
)
def test_an_invalid_signature_is_refused(mirror: Mirror, text: str) -> None:
    signed_suite(mirror, text)
    with pytest.raises(MaterialError, match="signature of the Release file is not valid"):
        lock_debian(replace(REQUEST, trust=Trust(keyring_file(mirror))), mirror.sources)


@pytest.mark.skipif(not shutil.which("gpgv"), reason="needs gpgv")
def test_what_stands_outside_of_the_signature_does_not_count(mirror: Mirror) -> None:
    signed_suite(mirror, f"SHA256:\n {'0' * 64} 5 main/binary-amd64/Packages\n\n{SIGNED}")
    with pytest.raises(MaterialError, match=r"provides `a`|not valid"):
        lock_debian(replace(REQUEST, trust=Trust(keyring_file(mirror))), mirror.sources)


def test_a_keyring_refuses_an_archive_that_is_not_signed(mirror: Mirror) -> None:
    mirror.suite("stable", "a 1")
    with pytest.raises(MaterialError, match="Cannot read suite"):
        lock_debian(replace(REQUEST, trust=Trust(keyring_file(mirror))), mirror.sources)


def signed_suite(mirror: Mirror, text: str) -> None:
    folder = mirror.folder / "dists/stable"
    (folder / "main/binary-amd64").mkdir(parents=True)
    (folder / "main/binary-amd64/Packages").write_bytes(b"")
    (folder / "InRelease").write_text(text)


def keyring_file(mirror: Mirror) -> Path:
    file = mirror.folder / "keyring.gpg"
    file.write_bytes(base64.b64decode(KEY))
    return file
