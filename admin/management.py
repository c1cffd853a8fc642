"""What can be done with certificates, in the same words for commands, API and console: see `Management`.

Everything here writes files into the state directory and nothing else; a running snigate notices by itself. So an
answer says what *will* be served, as far as is known now, a moment before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import structs

from admin import answers, remarks
from admin.audit import Actor, AuditLog
from admin.belongings import files_of, own_key, request_for, subject_of
from admin.description import identity
from admin.export import SECRET, Exported, Part, exported
from admin.known import Known
from admin.refusal import Refused
from admin.roots import Roots
from admin.text import iso, plain
from certstore.cabinet import Cabinet, Request
from certstore.certificate import Certificate, read_certificate
from certstore.certified_key import CertifiedKey
from certstore.handover import Handover, handovers
from certstore.incoming import Arrival, read_files, sort
from certstore.issue import Names, Subject, make_key, names_wanted, self_signed
from certstore.names import wildcard_of
from certstore.outline import public_key_digest
from certstore.private_key import PrivateKey, read_private_key
from certstore.selector import Selection
from config.model import Config

DAYS = 825  # of a self-signed certificate: the most that Apple's clients take
KEY_TYPE = "ecdsa-p256"
NOBODY = Subject()


class Management:
    """The actions. `known` is looked at anew for each.

    All raise CertstoreError with a sentence for the operator. What cannot be granted is refused before anything is
    done; where the disk refuses in between, what is written already stays, and is whole.
    """

    def __init__(self, config: Config, known: Callable[[], Known]) -> None:
        self._config = config
        self._known = known
        state = config.server.state_directory
        self.cabinet = Cabinet(state)
        self._audit = AuditLog(state)
        self.roots = Roots(self.cabinet, self._audit, known)

    # Certificates

    def new(self, actor: Actor, names: Sequence[str], key_type: str = KEY_TYPE, days: int = DAYS) -> answers.Done:
        """Make a self-signed certificate."""
        wanted = _names(names)
        return self._keep(actor, "new", _signed_by_itself(wanted, _key(key_type), days))

    def request(
        self, actor: Actor, names: Sequence[str], subject: Subject = NOBODY, key_type: str = KEY_TYPE
    ) -> answers.Request:
        """Make a key and a request for a certificate; the key waits here for it."""
        return self._request(actor, "request", _names(names), subject, _key(key_type))

    def import_(
        self, actor: Actor, files: Sequence[tuple[str, bytes]], passphrase: str | None = None
    ) -> list[answers.Done]:
        """Keep what is in these files: a CA's answer to a request, a pair, PKCS#12, or intermediates."""
        known = self._known()
        content = read_files(files, [passphrase.encode()] if passphrase else [])
        issuers = _authorities(known.situation.index)
        incoming = sort(content, self.cabinet.requests(), lambda spki: self._key_of(known, spki), issuers, known.trust)
        done = [self._keep_intermediate(actor, one) for one in incoming.intermediates]
        done += [self._keep(actor, "import", one) for one in incoming.arrivals]
        fulfilled = {one.request.path for one in incoming.arrivals if one.request is not None}
        if fulfilled:
            self.cabinet.discard(sorted(fulfilled), self.cabinet.place_in_trash())
        done[-1] = structs.replace(done[-1], notes=(*done[-1].notes, *remarks.on_rest(incoming)))
        return done

    def renew(
        self, actor: Actor, certificate: CertifiedKey, *, new_key: bool = False, days: int = DAYS
    ) -> answers.Done | answers.Request:
        """Make a certificate anew, with the same names, and the same key unless `new_key`.

        A self-signed one is there at once; of another a request is made, for its CA to sign.
        """
        key = _key(certificate.key_type) if new_key else own_key(certificate, self._known().passphrases())
        names = Names(certificate.names, certificate.addresses)
        if not names.hosts and not names.addresses:
            raise Refused("it names no host and no address, so there is nothing to make it anew for; make a request")
        if not certificate.self_signed:
            return self._request(actor, "renew", names, subject_of(certificate), key)
        return self._keep(actor, "renew", _signed_by_itself(names, key, days))

    def delete(self, actor: Actor | None, certificate: CertifiedKey) -> answers.Done:
        """Move a certificate's files to the trash; without an actor, only say what would come of it."""
        situation = self._known().situation
        if situation.index.certificates.get(certificate.fingerprint) is None:
            raise Refused("the certificate made at first start stays: it is what is served where nothing else is")
        belongings = files_of(certificate, situation.index, self._known().passphrases())
        self.cabinet.insist_on_own(belongings.files)
        changes = handovers(situation, retire=[certificate.fingerprint])
        to = self.cabinet.place_in_trash()
        if actor is not None:
            self._audit.note(
                actor, "delete", certificate=certificate.fingerprint, names=[*certificate.names], trash=to.name
            )
            needed = {link for one in situation.index for link in one.chain if one is not certificate}
            for authority in belongings.authorities:
                if authority.der in needed:
                    self.cabinet.put_intermediate(authority)
            self.cabinet.discard(belongings.files, to)
        notes = remarks.on_deletion(certificate, situation)
        return _done("delete", certificate.fingerprint, (str(to),) if actor is not None else (), changes, notes)

    def set_default(self, actor: Actor | None, host: str) -> answers.Done:
        """Let the certificate for this canonical host name be served where no other is for a name."""
        configured = self._config.certificates.default
        if configured is not None:
            raise Refused(
                f"the default is set by certificates.default in the configuration ({configured}); change it there, and "
                "reload",
                "host",
            )
        situation = self._known().situation
        if not situation.index.named(host) and not situation.index.named(wildcard_of(host) or ""):
            raise Refused(f"no certificate covers {host}; import one for it first", "host")
        changes = handovers(situation, default_name=host)
        if actor is not None:
            self._audit.note(actor, "default", host=host)
            self.cabinet.set_default(host)
        return _done("default", None, (), changes, [f"the default is the certificate for {host}"])

    def export(self, actor: Actor, certificate: CertifiedKey, part: Part, passphrase: str | None = None) -> Exported:
        """A part of a certificate, see admin.export; that its private key was handed out is noted."""
        found = exported(certificate, part, self._known().passphrases(), passphrase)
        if part in SECRET:
            self._audit.note(actor, "export-key", certificate=certificate.fingerprint, names=[*certificate.names])
        return found

    # Requests

    def requests(self) -> list[answers.Request]:
        """Those that wait for their certificates."""
        return [_shown(one) for one in self.cabinet.requests()]

    def waiting(self, which: str) -> Request:
        """The one request that is for this name, or whose id begins so."""
        wanted = which.lower().removesuffix(".")
        waiting = self.cabinet.requests()
        found = [one for one in waiting if wanted in (*one.names.hosts, *one.names.addresses)]
        found = found or [one for one in waiting if len(wanted) > 3 and one.id.startswith(wanted)]
        if not found:
            raise Refused(
                f"no request {plain(which)!r} waits for a certificate; 'snigate certs request' lists them", "id"
            )
        if len(found) > 1:
            ids = ", ".join(one.id[:16] for one in found)
            raise Refused(f"{len(found)} requests are for {plain(which)!r}; say which, by its id: {ids}", "id")
        return found[0]

    def withdraw(self, actor: Actor, request: Request) -> answers.Done:
        """Move a request, and its key with it, to the trash."""
        to = self.cabinet.place_in_trash()
        self._audit.note(actor, "withdraw", request=request.id, names=[*request.names.hosts], trash=to.name)
        self.cabinet.discard([request.path], to)
        return _done("withdraw", None, (str(to),), [])

    # Parts of these

    def _keep(self, actor: Actor, action: str, arrival: Arrival) -> answers.Done:
        known = self._known()
        entry = _entry(arrival, known)
        changes = handovers(known.situation, put=[entry])
        self._audit.note(actor, action, certificate=entry.fingerprint, names=[*entry.names, *entry.addresses])
        path = self.cabinet.put_certificate(arrival.leaf, arrival.chain, arrival.key.der)
        notes = remarks.on_arrival(arrival, known.situation, changes)
        return _done(action, entry.fingerprint, (str(path),), changes, notes)

    def _keep_intermediate(self, actor: Actor, one: Certificate) -> answers.Done:
        subject = identity(one.der).subject
        self._audit.note(actor, "import", certificate=one.fingerprint, subject=subject)
        path = self.cabinet.put_intermediate(one)
        return _done(
            "import", one.fingerprint, (str(path),), [], [f"{subject} completes the chains that it is part of"]
        )

    def _request(self, actor: Actor, action: str, names: Names, subject: Subject, key: PrivateKey) -> answers.Request:
        text = request_for(names, key, subject)
        self._audit.note(actor, action, request=key.spki.hex(), names=[*names.hosts, *names.addresses])
        return _shown(self.cabinet.put_request(names, key, text))

    def _key_of(self, known: Known, spki: bytes) -> PrivateKey | None:
        for one in known.situation.index:
            if public_key_digest(one.leaf) == spki:
                return own_key(one, known.passphrases())
        return None


def _names(texts: Sequence[str]) -> Names:
    try:
        return names_wanted(texts)
    except ValueError as error:
        raise Refused(f"{error}", "names") from None


def _key(key_type: str) -> PrivateKey:
    try:
        return read_private_key(make_key(key_type))
    except ValueError as error:
        raise Refused(str(error), "key_type") from None


def _signed_by_itself(names: Names, key: PrivateKey, days: int) -> Arrival:
    try:
        return Arrival(read_certificate(_der(self_signed(names, key.der, days))), key)
    except ValueError as error:
        raise Refused(str(error), "days") from None


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def _entry(arrival: Arrival, known: Known) -> CertifiedKey:
    leaf = arrival.leaf
    verdict, _ = known.trust.best_verdict(
        leaf, [read_certificate(one) for one in arrival.chain], known.situation.clock()
    )
    return CertifiedKey(
        fingerprint=leaf.fingerprint,
        names=leaf.names,
        addresses=leaf.addresses,
        key_type=leaf.key_type,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        self_signed=leaf.self_signed,
        trusted_from=verdict.valid_from if verdict is not None else 0,
        trusted_until=verdict.valid_until if verdict is not None else 0,
        leaf=leaf.der,
        chain=arrival.chain,
        key=b"",
        paths=(),
    )


def _authorities(certificates: Iterable[CertifiedKey]) -> list[Certificate]:
    """The intermediates that certificates here are sent with."""
    return [read_certificate(one) for one in {link: None for held in certificates for link in held.chain}]


def _shown(one: Request) -> answers.Request:
    return answers.Request(
        id=one.id,
        names=one.names.hosts,
        addresses=one.names.addresses,
        key_type=one.key.key_type,
        made_at=iso(one.made_at),
        request=one.request.decode(),
        path=plain(str(one.path)),
    )


def _done(
    action: str,
    fingerprint: str | None,
    paths: Iterable[str],
    changes: Iterable[Handover],
    notes: Iterable[str] = (),
) -> answers.Done:
    return answers.Done(
        action=action,
        fingerprint=fingerprint,
        paths=tuple(map(plain, paths)),
        changes=tuple(answers.Change(one.name, _served(one.before), _served(one.after)) for one in changes),
        notes=tuple(notes),
    )


def _served(selection: Selection | None) -> answers.Served | None:
    if selection is None:
        return None
    return answers.Served(
        fingerprint=selection.certificate.fingerprint,
        level=selection.level.value,
        level_words=selection.level.words,
        not_after=iso(selection.certificate.not_after),
    )
