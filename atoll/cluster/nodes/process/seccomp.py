"""The RuntimeDefault system call filter as a BPF program: pure.

What it refuses (EPERM) is the kernel's own business: modules, kexec, keys, clocks, swap, raw I/O, tracing of the
kernel, and, without CAP_SYS_ADMIN, mounting and new namespaces. Calls of another architecture are refused as well.
"""

from __future__ import annotations

import platform
import struct

# number on x86_64, number on aarch64; None: there is none
_ALWAYS = {
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "iopl": (172, None), "ioperm": (173, None), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "bpf": (321, 280), "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265), "userfaultfd": (323, 282), "nfsservctl": (180, 42), "vhangup": (153, 58),
    "quotactl": (179, 60), "lookup_dcookie": (212, 18), "move_pages": (279, 239), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
_ADMIN = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "setns": (308, 268), "unshare": (272, 97),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_NAMESPACES = 0x7E020000  # CLONE_NEW*
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _ANY_BIT, _RETURN, _AT_LEAST = 0x20, 0x15, 0x45, 0x06, 0x35
_ALLOW, _REFUSE, _MISSING = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x40000000


def default_filter(*, admin: bool, machine: str = "") -> bytes:
    """The program, empty on a machine that it does not know. `admin`: the container has CAP_SYS_ADMIN."""
    found = _ARCHITECTURES.get(machine or platform.machine())
    if found is None:
        return b""
    column, architecture = found
    calls = [*_ALWAYS.values(), *(() if admin else _ADMIN.values())]
    numbers = sorted(number for pair in calls if (number := pair[column]) is not None)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE),
    ]  # fmt: skip
    for number in numbers:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    if not admin:
        # clone3's flags are behind a pointer: "not there" makes the C library fall back to clone
        code += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _MISSING)]
        code += [
            (_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_ANY_BIT, 0, 1, _NAMESPACES), (_RETURN, 0, 0, _REFUSE),
        ]  # fmt: skip
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
