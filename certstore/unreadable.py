"""Why the operating system does not let a file or directory be read, and what to do about it, in words."""

from __future__ import annotations

import errno
import os
import pwd

# Stand for an errno.
LEADS_OUT = -1  # a link in a directory leads out of all of them, to what is above them or the kernel's
TOO_MUCH_OUTSIDE = -2  # a link leads to more than may lie outside
TOO_MUCH = -3  # there is more below a directory than may be


def of_file(error: OSError) -> str:
    """The sentence for a file."""
    hint = {
        errno.EACCES: "let the user snigate runs as read it",
        errno.ENOENT: "the link points to nothing; restore its target or remove the link",
        errno.ELOOP: "the link leads back to itself; correct it",
    }.get(error.errno or 0, "correct that, and it is read again")
    return f"cannot be read ({os.strerror(error.errno or 0)}): {hint}"


def of_directory(code: int, key: str | None, *, held: bool) -> str:
    """The sentence for a directory: `code` is the errno that came of reading it, or LEADS_OUT.

    `key` is the configuration's key that names the directory, where one does; `held` tells that what was found in it
    before is still served.
    """
    correct = f"correct {key}" if key is not None else "correct its path"
    if code == LEADS_OUT:
        why = "is a link that leads out of the certificate directories; remove it"
    elif code == TOO_MUCH_OUTSIDE:
        why = "is a link to more files than may lie outside the certificate directories; link to the certificates alone"
    elif code == TOO_MUCH:
        why = "has more files below it than are looked at; keep certificates alone there"
    elif code == errno.ENOTDIR:
        why = f"is a file; name its directory in {key}" if key is not None else "is a file, and should be a directory"
    elif code == errno.ENOENT:
        why = f"does not exist; make it, or {correct}"
    elif code == errno.EACCES:
        why = f"may not be read by user {user_name()}; let that user list it, and enter it and every directory above"
    else:
        why = f"cannot be read ({os.strerror(code)}); mend that, or {correct}"
    return f"{why}; what it held last stays in service" if held else why


def user_name(number: int | None = None) -> str:
    """A user by name, or by number where it has none; the one this process acts as where none is given."""
    number = os.geteuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
