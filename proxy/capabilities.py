"""Capabilities of this process (capabilities(7)), and that no program gives it more: by calls of the C library.

They belong to a thread, and threads that it starts have the same: whatever is given up here is to be given up before
there are others.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from enum import IntEnum

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set
_SET_DUMPABLE, _SET_KEEPCAPS, _CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 4, 8, 23, 24, 38, 47
_AMBIENT_RAISE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class Capability(IntEnum):
    """Those that snigate has a use for, by their numbers in linux/capability.h."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_BIND_SERVICE = 10


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def gain_nothing() -> None:
    """From now on no program that this process or a child of it executes has more rights for that. Raises OSError."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def close_memory() -> None:
    """From now on nobody but root may look into this process or one forked from it, and no core of them is written.

    Else whoever is the same user may. A change of user does the same. Raises OSError.
    """
    _prctl(_SET_DUMPABLE, 0)


def permitted() -> set[int]:
    """The numbers of those that this process has. Raises OSError."""
    words = (_Word * 2)()
    _checked(_libc.capget(ctypes.byref(_header()), words))
    mask = words[0].permitted | words[1].permitted << 32
    return {number for number in range(64) if mask >> number & 1}


def keep_only(wanted: Iterable[int]) -> None:
    """Have these, as far as they are there, in force, and give up all others for good. Raises OSError."""
    _set(permitted() & set(wanted), ())


def hand_on(wanted: Iterable[int]) -> None:
    """The same, and let the programs that this process executes have them too. Raises OSError."""
    kept = permitted() & set(wanted)
    _set(kept, kept)
    for number in kept:
        _prctl(_CAP_AMBIENT, _AMBIENT_RAISE, number)


def give_up_bounds(wanted: Iterable[int]) -> None:
    """See to it that not even root's programs have others than these; who has no CAP_SETPCAP cannot. Raises OSError."""
    if Capability.SETPCAP not in permitted():
        return
    kept, number = set(wanted), 0
    while _libc.prctl(_CAPBSET_READ, number, 0, 0, 0) >= 0:  # the kernel's last one is known by the next
        if number not in kept:
            _prctl(_CAPBSET_DROP, number)
        number += 1


def keep_through_change_of_user(keep: bool) -> None:
    """Whether what is permitted outlives the change from root to another user. Raises OSError."""
    _prctl(_SET_KEEPCAPS, int(keep))


def _set(kept: Iterable[int], inheritable: Iterable[int]) -> None:
    words = (_Word * 2)()
    for place, word in enumerate(words):
        word.effective = word.permitted = _mask(kept) >> 32 * place & 0xFFFFFFFF
        word.inheritable = _mask(inheritable) >> 32 * place & 0xFFFFFFFF
    _checked(_libc.capset(ctypes.byref(_header()), words))


def _mask(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def _header() -> _Header:
    return _Header(_VERSION, 0)


def _prctl(what: int, first: int, second: int = 0) -> None:
    _checked(_libc.prctl(what, first, second, 0, 0))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
