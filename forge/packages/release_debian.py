"""Release files: what a suite consists of, and who signed it."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.packages.connection import Missing, Unavailable
from forge.packages.download import Downloader
from forge.packages.index_debian import SuiteIndex, parse_release
from forge.packages.sources import Place, Sources, setting_hint

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_GPGV_SECONDS = 60
_FORMS = (".xz", ".gz", "")


@dataclass(frozen=True, slots=True)
class Suites:
    """Reads the indexes of suites from a source."""

    source: str
    sources: Sources
    downloader: Downloader
    warn: Callable[[str], None]
    keyring: Path | None = KEYRING
    """Who may sign; None takes unsigned archives too."""

    def read(self, suite: str, arch: str, component: str = "main") -> SuiteIndex:
        """Read one suite's packages for `arch` from the first place that has it; MaterialError when none has."""
        reasons = []
        for place in self.sources.places(self.source, suite=suite):
            try:
                return SuiteIndex(suite, self._read_from(place, suite, f"{component}/binary-{arch}"))
            except Unavailable as error:
                reasons.append(f"\n    {place}: {error}")
        tried = "".join(reasons) or " it has no address"
        raise MaterialError(
            f"Cannot read suite `{suite}` from source `{self.source}`:{tried}", hint=setting_hint(self.source)
        )

    def _read_from(self, place: Place, suite: str, folder: str) -> str:
        base = f"{place.address}/dists/{suite}"
        listed = parse_release(self._release(base, suite))
        for form in _FORMS:
            name = f"{folder}/Packages{form}"
            if digest := listed.get(name):
                return _unpack(self._listed(base, name, digest), form)
        raise Missing(f"Suite `{suite}` has no packages in `{folder}`")

    def _release(self, base: str, suite: str) -> str:
        try:
            signed = self.downloader.read(f"{base}/InRelease").data
        except Missing:
            if self.keyring is not None and self.keyring.is_file():
                # Taking `Release` instead would let anybody on the way answer 404 and forge the rest.
                raise
            self.warn(f"The Release file of `{suite}` is not signed")
            return self.downloader.read(f"{base}/Release").data.decode("utf-8", "replace")
        gpgv = shutil.which("gpgv")
        if gpgv and self.keyring is not None and self.keyring.is_file():
            return _verify(gpgv, self.keyring, signed)
        if self.keyring is not None:
            what = f"there is no `{self.keyring}`" if gpgv else "`gpgv` is not installed"
            self.warn(f"The signature of `{suite}` is not checked: {what}")
        return _signed_text(signed.decode("utf-8", "replace"))

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


def _verify(gpgv: str, keyring: Path, signed: bytes) -> str:
    """Check a clear-signed text and return what is covered by the signature, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="forge-gpgv-") as folder:
        text, output = Path(folder, "InRelease"), Path(folder, "Release")
        text.write_bytes(signed)
        argv = [gpgv, "--keyring", str(keyring), "--status-fd", "1", "--output", str(output), str(text)]
        run = subprocess.run(argv, capture_output=True, timeout=_GPGV_SECONDS, check=False)
        status = run.stdout.decode("utf-8", "replace")
        # As apt does: a suite has several signatures, and an older keyring need not know all the keys (exit 2).
        valid = re.search(r"(?m)^\[GNUPG:\] VALIDSIG ", status) and not re.search(r"(?m)^\[GNUPG:\] BADSIG ", status)
        if not valid or not output.is_file():
            last = run.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise Unavailable(f"The signature of the Release file is not valid ({' '.join(last)})")
        return output.read_text(encoding="utf-8", errors="replace")


def _signed_text(signed: str) -> str:
    """Take the text out of its clear-signature, unchecked (RFC 9580, section 7)."""
    _, begun, rest = signed.partition("-----BEGIN PGP SIGNED MESSAGE-----")
    if not begun:
        return signed
    body = rest.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    return re.sub(r"(?m)^- ", "", body) + "\n"


def _unpack(data: bytes, form: str) -> str:
    try:
        plain = lzma.decompress(data) if form == ".xz" else gzip.decompress(data) if form == ".gz" else data
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise Unavailable(f"The package index cannot be unpacked: {error}") from error
    return plain.decode("utf-8", "replace")
