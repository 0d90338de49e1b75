"""Release files: what a suite consists of, who signed it, and when.

A signature says that the archive once said so; the date says that this is not what it said long ago. So a file that is
past its `Valid-Until`, or older than the one that a lock was made from, is as bad as one with a bad signature.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from forge.core.digest import Digest
from forge.core.errors import HostError, MaterialError
from forge.net.connection import Missing, Unavailable
from forge.net.download import Downloader
from forge.packages.index_debian import SuiteIndex, parse_release
from forge.packages.sources import Place, Sources, setting_hint

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_GPGV_SECONDS = 60
_FORMS = (".xz", ".gz", "")


@dataclass(frozen=True, slots=True)
class Trust:
    """What a suite's Release file must be for a lock to be made from it."""

    keyring: Path | None = KEYRING
    """Who may sign; None takes unsigned archives too."""
    refuse_expired: bool = True
    """Refuse what is past its `Valid-Until`, as every snapshot of an archive is."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC), compare=False)


@dataclass(frozen=True, slots=True)
class Suites:
    """Reads the indexes of suites from a source."""

    source: str
    sources: Sources
    downloader: Downloader
    warn: Callable[[str], None]
    trust: Trust
    released: Mapping[str, str] = field(default_factory=dict)
    """Suite -> date of the Release file that the present lock was made from: no older one is taken."""

    def read(self, suite: str, arch: str, component: str = "main") -> SuiteIndex:
        """Read one suite's packages for `arch` from the first place that has it; MaterialError when none has."""
        reasons = []
        for place in self.sources.places(self.source, suite=suite):
            try:
                return self._read_from(place, suite, f"{component}/binary-{arch}")
            except Unavailable as error:
                reasons.append(f"\n    {place}: {error}")
        tried = "".join(reasons) or " it has no address"
        raise MaterialError(
            f"Cannot read suite `{suite}` from source `{self.source}`:{tried}", hint=setting_hint(self.source)
        )

    def _read_from(self, place: Place, suite: str, folder: str) -> SuiteIndex:
        base = f"{place.address}/dists/{suite}"
        text = self._release(base, suite)
        listed, date = parse_release(text), self._check_dates(suite, text)
        for form in _FORMS:
            name = f"{folder}/Packages{form}"
            if digest := listed.get(name):
                return SuiteIndex(suite, _unpack(self._listed(base, name, digest), form), date)
        raise Missing(f"Suite `{suite}` has no packages in `{folder}`")

    def _release(self, base: str, suite: str) -> str:
        try:
            signed = self.downloader.read(f"{base}/InRelease").data
        except Missing:
            if self.trust.keyring is not None:
                # Taking `Release` instead would let anybody on the way answer 404 and forge the rest.
                raise
            self.warn(f"The Release file of `{suite}` is not signed")
            return self.downloader.read(f"{base}/Release").data.decode("utf-8", "replace")
        if self.trust.keyring is not None:
            return _verify(find_gpgv(self.trust.keyring), self.trust.keyring, signed)
        self.warn(f"The signature of `{suite}` is not checked")
        return _signed_text(signed.decode("utf-8", "replace"))

    def _check_dates(self, suite: str, release: str) -> str:
        """Refuse what is too old; the date, as locks have it."""
        until, date = _date(release, "Valid-Until"), _date(release, "Date")
        if until is not None and until < self.trust.now() and self.trust.refuse_expired:
            raise Unavailable(f"The Release file of `{suite}` is out of date: it was valid until {_spell(until)}")
        last = self.released.get(suite, "")
        if date is None:
            if last:
                raise Unavailable(f"The Release file of `{suite}` has no date, the lock was made from that of {last}")
            return ""
        if _spell(date) < last:
            text = f"The Release file of `{suite}` is of {_spell(date)}, older than that of the lock, {last}"
            raise Unavailable(f"{text}: an old copy, or a mirror that lags")
        return _spell(date)

    def _listed(self, base: str, name: str, digest: Digest) -> bytes:
        folder = name.rpartition("/")[0]
        # By hash first: the plain name may already be of the next release.
        for address in (f"{base}/{folder}/by-hash/SHA256/{digest.hash}", f"{base}/{name}"):
            try:
                data = self.downloader.read(address, limit=digest.size).data
            except Missing:
                continue
            if (got := Digest.of(data)) != digest:
                raise Unavailable(f"`{name}` is not what the Release file says: got {got}, expected {digest}")
            return data
        raise Missing(f"Has no `{name}`")


def find_gpgv(keyring: Path) -> str:
    """Find the program that checks signatures; HostError where it or the keys are not there."""
    gpgv = shutil.which("gpgv")
    if gpgv is None or not keyring.is_file():
        what = "`gpgv` is not installed" if gpgv is None else f"there is no `{keyring}`"
        hint = "`apt install gpgv debian-archive-keyring`, or `forge lock --unsigned` to trust whoever answers"
        raise HostError(f"Signatures of Debian archives cannot be checked: {what}", hint=hint)
    return gpgv


def _verify(gpgv: str, keyring: Path, signed: bytes) -> str:
    """Check a clear-signed text and return what is covered by the signature, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="forge-gpgv-") as folder:
        text, output = Path(folder, "InRelease"), Path(folder, "Release")
        text.write_bytes(signed)
        argv = [gpgv, "--keyring", str(keyring), "--status-fd", "1", "--output", str(output), str(text)]
        run = subprocess.run(argv, capture_output=True, timeout=_GPGV_SECONDS, check=False)
        status = run.stdout.decode("utf-8", "replace")
        said = dict(re.findall(r"(?m)^\[GNUPG:\] (\w+) ?(.*)$", status))
        # As apt does: a suite has several signatures, and an older keyring need not know all the keys (exit 2). One of
        # a key that has expired or was revoked is valid and not good.
        if "GOODSIG" in said and "VALIDSIG" in said and "BADSIG" not in said and output.is_file():
            return output.read_text(encoding="utf-8", errors="replace")
        last = run.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Unavailable(f"The signature of the Release file is not valid: {_fault(said, keyring, ' '.join(last))}")


def _fault(said: Mapping[str, str], keyring: Path, last: str) -> str:
    """Put in words what is wrong with a signature."""
    if "BADSIG" in said:
        return "the file was changed after it was signed"
    if "EXPKEYSIG" in said or "EXPSIG" in said or "REVKEYSIG" in said:
        return "it has expired, or its key has, or was revoked"
    if "NO_PUBKEY" in said:
        return f"it is by the key {said['NO_PUBKEY'].strip()}, which `{keyring}` does not have"
    return last or "there is none"


def _signed_text(signed: str) -> str:
    """Take the text out of its clear-signature, unchecked (RFC 9580, section 7)."""
    _, begun, rest = signed.partition("-----BEGIN PGP SIGNED MESSAGE-----")
    if not begun:
        return signed
    body = rest.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    return re.sub(r"(?m)^- ", "", body) + "\n"


def _date(release: str, name: str) -> datetime | None:
    match = re.search(rf"(?m)^{name}:\s*(.+?)\s*$", release)
    if match is None:
        return None
    try:
        found = parsedate_to_datetime(match[1])
    except ValueError as error:
        raise Unavailable(f"`{name}` of the Release file is no date: `{match[1]}`") from error
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _spell(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


def _unpack(data: bytes, form: str) -> str:
    try:
        plain = lzma.decompress(data) if form == ".xz" else gzip.decompress(data) if form == ".gz" else data
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise Unavailable(f"The package index cannot be unpacked: {error}") from error
    return plain.decode("utf-8", "replace")
