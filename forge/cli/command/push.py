"""`forge push`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.console import Console
from forge.cli.imaging import built_artifacts, tree_content
from forge.cli.key_file import chosen_key
from forge.cli.options import CONTEXT, build_options, merged, working_folder
from forge.cli.provenance import PREDICATE, statement
from forge.cli.pushing import Note, Progress, Pushed, check_names, images_of, pusher, render_json, summary, target_name
from forge.cli.session import Session
from forge.core.artifact import Artifact, Derived
from forge.core.graph import ActionGraph
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.provider import ImageInfo, IndexInfo
from forge.core.tool import Content as Built
from forge.core.tool import FileContent
from forge.core.tree import Tree
from forge.oci import document, signature
from forge.oci.manifest import Descriptor
from forge.oci.push import Content, Pusher
from forge.oci.referrer import PROVENANCE, SBOM, Referrer, push_referrers
from forge.oci.signature import SIGNED
from forge.oci.signing import push_signature, signed
from forge.oci.signing_key import SigningKey

_PREDICATE_TYPE = "in-toto.io/predicate-type"


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge push //tiny_gpt2:llama --to=registry.example/team/tiny_gpt2
  forge push //tiny_gpt2:all --to=registry.example/{package}:{name} --sign-key=cosign.key
  forge push //... --output=json     where [push] of WORKSPACE.toml says the rest""",
)
@click.argument("patterns", nargs=-1)
@click.option("--to", default="", metavar="REF", help="Registry, repository, tag; filled in like the tag.")
@click.option("--tag", default="", metavar="TAG", help="Tag; {label}, {package}, {name}, {platform} are filled in.")
@click.option("--referrers/--noreferrers", default=True, help="Push SBOM and provenance beside each image.")
@click.option(
    "--sign-key", metavar="FILE", help="Private key to sign with, PEM or cosign's; `env://NAME` for a variable."
)
@build_options
def command(patterns: tuple[str, ...], to: str, tag: str, referrers: bool, sign_key: str | None, **flags: Any) -> int:
    """Build images and indexes, and push them to a registry: what it lacks, and nothing else.

    Logins are Docker's. A tag means a whole image at every moment; it is set last. A signature is one that
    `cosign verify --key` takes; the key's password is read from FORGE_SIGN_PASSWORD, else COSIGN_PASSWORD.
    """
    begun = time.monotonic()
    session = Session(working_folder(), os.environ)
    given = merged(flags, session.workspace)
    settings = settings_of(given)
    graph = session.load(session.patterns(patterns), settings)
    actions = session.analyze(graph, settings)
    images = images_of(graph, actions)
    names = {label: target_name(label, info, session.workspace.push, to, tag) for label, info in images.items()}
    check_names(names)
    key = chosen_key(session, sign_key)
    wanted = list(dict.fromkeys(each for info in images.values() for each in _artifacts(info, referrers)))
    built = dict(zip(wanted, built_artifacts(session, actions, wanted, flags), strict=True))
    console = Console.make(given.get("progress") or "auto", given.get("color") or "auto", os.environ)
    note, progress = Note.read(session.state / "pushed"), Progress(console)
    registries = dict.fromkeys(name.registry for name in names.values())
    made = {each: pusher(session.places, each, session.store, note, progress) for each in registries}
    pushed: list[Pushed] = []
    as_json = given.get("output") == "json"
    try:
        for label, info in images.items():
            one = made[names[label].registry]
            content = _content(session, built, info.layout)
            about = _referrers(session, actions, info, built, key) if referrers else []
            if key is not None and referrers:
                about += [
                    signed(one.store, each, signature.statement(each.digest), SIGNED, key) for each in content.documents
                ]
            pushed.append(_push(one, label, names[label], content, about, key))
            if not as_json:
                click.echo(f"{label}  {pushed[-1].reference}@{pushed[-1].digest}")
    finally:
        note.save()
    if as_json:
        sys.stdout.write(render_json(pushed))
        sys.stdout.flush()
    console.line(summary(pushed, time.monotonic() - begun))
    return 0


def _push(
    one: Pusher,
    label: Label,
    name: ImageName,
    content: Content,
    about: Sequence[Referrer],
    key: SigningKey | None,
) -> Pushed:
    """Push an image with what is known about it, signed, and count what went over."""
    tally = one.tally
    before = replace(tally)
    one.push(name, content)
    if about:
        push_referrers(one, name.repository, about)
    if key is not None:
        for each in content.documents:
            push_signature(one, name.repository, each.digest, f"{name.registry}/{name.repository}", key)
    counts = (tally.sent - before.sent, tally.mounted - before.mounted, tally.there - before.there)
    return Pushed(label, name.tagged, content.root.digest.oci, *counts)


def _artifacts(info: ImageInfo | IndexInfo, referrers: bool) -> list[Artifact]:
    """List what must be there to push an image."""
    inner = info.images if isinstance(info, IndexInfo) and referrers else ()
    found = [info.layout, *(each.layout for each in inner)]
    if referrers:
        found += [each.sbom for each in (info, *inner) if isinstance(each, ImageInfo)]
    return [each for each in found if each is not None]


def _content(session: Session, built: Mapping[Artifact, Built | None], layout: Artifact | None) -> Content:
    assert layout is not None
    return Content.read(Tree.decode(session.store.read(tree_content(built[layout]).tree)), session.store)


def _referrers(
    session: Session,
    actions: ActionGraph,
    info: ImageInfo | IndexInfo,
    built: Mapping[Artifact, Built | None],
    key: SigningKey | None,
) -> list[Referrer]:
    """Write what is known about an image: what it is made of, and where from; of an index also about its images."""
    found: list[Referrer] = []
    for each in (info, *(info.images if isinstance(info, IndexInfo) else ())):
        assert isinstance(each.layout, Derived)
        root = _content(session, built, each.layout).root
        label = str(actions.actions[each.layout.action].owner)
        subject = Descriptor(root.media_type, root.digest)
        name = label.rpartition(":")[2]
        sbom = built[each.sbom] if isinstance(each, ImageInfo) and each.sbom is not None else None
        if isinstance(sbom, FileContent):
            # Without its spaces: of a small change it is most of what goes over the line.
            listed = session.store.put(document.encode(json.loads(session.store.read(sbom.digest))))
            found.append(Referrer(subject, SBOM, listed, f"{name}.sbom.json"))
        said = statement(
            actions, each.layout, label, each.ref, root.digest, lambda source: session.sources.content(source).digest
        )
        about = {_PREDICATE_TYPE: PREDICATE}
        found.append(Referrer(subject, PROVENANCE, session.store.put(said), f"{name}.provenance.json", about))
        if key is not None:
            found.append(signed(session.store, subject, said, PREDICATE, key))
    return found
