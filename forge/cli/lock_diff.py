"""What changes from one lock to another, line by line, as a person reviews it."""

from __future__ import annotations

from collections.abc import Iterator

from forge.core.lock import Lock, Material


def differences(old: Lock | None, new: Lock) -> tuple[str, ...]:
    """List what is added, removed or changed; empty where both hold the same.

    Other bytes under the same version are what a reviewer must not overlook, so their line shouts.
    """
    before, after = _materials(old), _materials(new)
    is_model = new.kind == "model"
    lines = []
    if new.revision and (old is None or old.repository != new.repository):
        lines.append(f"added {new.repository} {new.revision}")
    elif old is not None and old.revision != new.revision:
        lines.append(f"changed {old.repository}: {old.revision} -> {new.revision or 'no commit'}")
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            each = now or was
            assert each is not None
            title = name if is_model else f"{name} {each.version}"
            lines.append(f"{'added' if now else 'removed'} {title}")
        elif is_model:
            lines += _file_changes(name, was, now)
        else:
            lines += _package_changes(name, was, now)
    absent = set(old.missing) if old is not None else set()
    lines += [f"missing {each}" for each in new.missing if each not in absent]
    return tuple(lines)


def _materials(lock: Lock | None) -> dict[str, Material]:
    if lock is None:
        return {}
    if lock.image is not None:
        name, digest = lock.image.name.tagged, lock.image.digest
        return {name: Material(name, f"sha256:{digest}", name, digest, lock.image.name.registry)} if digest else {}
    return {each.file if lock.kind == "model" else each.name: each for each in lock.materials}


def _file_changes(name: str, was: Material, now: Material) -> Iterator[str]:
    if was.digest != now.digest:
        what = "changed" if was.version != now.version else "REPLACED"  # another commit may have other bytes
        yield f"{what} {name}: sha256 {was.digest.hash} -> {now.digest.hash}"


def _package_changes(name: str, was: Material, now: Material) -> Iterator[str]:
    title = f"{name} {now.version}"
    if was.version != now.version:
        yield f"changed {name}: {was.version} -> {now.version}"
    elif was.file != now.file:
        yield f"changed {title}: {was.file} -> {now.file}"
    elif was.digest != now.digest:
        yield f"REPLACED {title}: other bytes under the same version, sha256 {was.digest.hash} -> {now.digest.hash}"
    for what, one, other in (("source", was.source, now.source), ("suite", was.suite, now.suite)):
        if one != other:
            yield f"moved {title}: from {what} {one or 'none'} to {other or 'none'}"
