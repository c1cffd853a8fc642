"""What somebody who changes certificates should be told beside that it was done: sentences without full stops."""

from __future__ import annotations

from collections.abc import Sequence

from admin.description import identity
from admin.text import count, iso, plain
from certstore.certified_key import CertifiedKey
from certstore.handover import Handover, Situation
from certstore.incoming import Arrival, Incoming


def on_arrival(arrival: Arrival, situation: Situation, changes: Sequence[Handover]) -> list[str]:
    """About one that was kept: its chain, its dates, and whether it is of use. `situation`: as it was before."""
    leaf, now = arrival.leaf, situation.clock()
    found = []
    if arrival.missing and not arrival.chain:
        found.append(
            f"the chain lacks the certificate of {plain(arrival.missing)}, which has issued this one; unless that is a "
            "root, many clients will not trust it: import the intermediate too"
        )
    elif arrival.missing:
        found.append(
            f"the chain ends below {plain(arrival.missing)}, which is not known here: if that is a root of your own, "
            "add it to the roots ('snigate trust add'); if not, import its certificate too"
        )
    if leaf.not_after <= now:
        found.append("it has expired, and is served only where nothing better is")
    if leaf.not_before > now:
        found.append(
            f"it is not valid before {iso(leaf.not_before)}, and served only where nothing better is until then"
        )
    if leaf.fingerprint in situation.index.certificates:
        found.append("it was here already")
    elif not leaf.names and not leaf.addresses:
        found.append("it names no host and no address, so that it can only be a default")
    elif not any(one.after is not None and one.after.certificate.fingerprint == leaf.fingerprint for one in changes):
        found.append(
            "it serves no name for now, since what is here already comes first; 'snigate explain HOST' says why"
        )
    return found


def on_rest(incoming: Incoming) -> list[str]:
    """About what came along and was not kept."""
    found = []
    if incoming.spare_keys:
        keys = count(incoming.spare_keys, "private key")
        found.append(f"not kept, since no certificate for a server came with it: {keys}")
    if incoming.left_out:
        names = ", ".join(identity(one.der).subject or "(no name)" for one in incoming.left_out[:4])
        found.append(f"not kept, since it is in no chain that is sent: {names}")
    return found


def on_deletion(certificate: CertifiedKey, situation: Situation) -> list[str]:
    """About one that goes."""
    name = situation.default_name
    chosen = situation.selector().select(None)
    if name is None or chosen is None or chosen.certificate.fingerprint != certificate.fingerprint:
        return []
    return [
        f"it is the default, as the certificate for {name}: set another (or see what names that no certificate has get)"
    ]
