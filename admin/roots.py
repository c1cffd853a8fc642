"""Root certificates that chains may lead to: shown, added, removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from admin import answers
from admin.audit import Actor, AuditLog
from admin.description import identity
from admin.known import Known
from admin.refusal import Refused
from admin.text import iso, plain
from certstore.cabinet import Cabinet, Root
from certstore.certificate import Certificate
from certstore.incoming import read_files

MIN_DIGITS = 4  # of a fingerprint that name a root


class Roots:
    """The actions; see admin.management."""

    def __init__(self, cabinet: Cabinet, audit: AuditLog, known: Callable[[], Known]) -> None:
        self._cabinet = cabinet
        self._audit = audit
        self._known = known

    def every(self) -> list[answers.Root]:
        """Every root that chains may lead to; those that were added here can be removed."""
        added = {one.certificate.fingerprint: one for one in self._cabinet.roots()}
        anchors = {one.fingerprint: one for one in self._known().trust.anchors}
        anchors.update((fingerprint, one.certificate) for fingerprint, one in added.items())
        return sorted(
            (_root(one, added.get(fingerprint)) for fingerprint, one in anchors.items()),
            key=lambda one: (not one.added, one.subject),
        )

    def add(self, actor: Actor, files: Sequence[tuple[str, bytes]]) -> list[answers.Root]:
        """Trust these certificates: chains that lead to them verify."""
        content = read_files(files)
        if content.keys:
            raise Refused("there is a private key in the files; add a root's certificate alone", "files")
        strangers = [one for one in content.certificates if not one.self_signed]
        if strangers or not content.certificates:
            what = (
                f"{identity(strangers[0].der).subject} is not self-signed"
                if strangers
                else "there is no certificate in it"
            )
            raise Refused(f"{what}; a root certificate is signed by itself", "files")
        found = []
        for one in content.certificates:
            self._audit.note(actor, "trust-add", certificate=one.fingerprint, subject=identity(one.der).subject)
            found.append(_root(one, Root(one, self._cabinet.put_root(one), True)))
        return found

    def remove(self, actor: Actor, which: str) -> answers.Root:
        """Trust a root no more that was added here."""
        digits, roots = which.replace(":", "").lower(), self._cabinet.roots()
        found = [one for one in roots if len(digits) >= MIN_DIGITS and one.certificate.fingerprint.startswith(digits)]
        if not found:
            raise Refused(
                f"no root whose fingerprint begins with {plain(which)!r} was added here; others come from "
                "certificates.trust in the configuration",
                "fingerprint",
            )
        fingerprints = {one.certificate.fingerprint for one in found}
        if len(fingerprints) > 1:
            raise Refused(f"{plain(which)!r} is the beginning of several fingerprints; give more digits", "fingerprint")
        crowded = next((one.path for one in found if not one.is_alone), None)
        if crowded is not None:
            raise Refused(f"{crowded} holds other roots as well; take the file apart", "fingerprint")
        to = self._cabinet.place_in_trash()
        self._audit.note(actor, "trust-remove", certificate=found[0].certificate.fingerprint, trash=to.name)
        self._cabinet.discard([one.path for one in found], to)
        return _root(found[0].certificate, None)


def _root(one: Certificate, added: Root | None) -> answers.Root:
    return answers.Root(
        fingerprint=one.fingerprint,
        subject=identity(one.der).subject,
        not_after=iso(one.not_after),
        added=added is not None,
        path=plain(str(added.path)) if added is not None else None,
    )
