"""What the child process gives up before it sees the artifact. Nothing but the standard library is imported here.

Numerical libraries start threads when they are imported, and a thread that exists already is not confined by what
the main thread gives up; so `sandbox_child` runs this file before anything else. Linux has all of it: Landlock
for files (kernel 5.13), a system-call filter for network, programs and processes. What the system does not offer is
named, not hidden.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# linux/landlock.h; the three system calls have the same numbers on every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_WRITE_FILE = 1 << 1
_CHANGE_TREE = sum(1 << bit for bit in range(4, 13))  # remove and make files of every kind
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # since versions 2 and 3
_BIND_AND_CONNECT = 0b11  # TCP, since version 4
_SIGNALS_AND_SOCKETS = 0b11  # towards processes outside, since version 6

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/dri/*")
"""The devices that stay writable: harmless ones, and the accelerator, which is used by writing to it."""

# System calls refused with EPERM. Network: `socket`; `io_uring_*` could open one unseen. Programs: `execve*`. Other
# processes and the kernel: the rest. Landlock does not cover modes and owners, so these are refused here.
_REFUSED = {
    "x86_64": {
        "socket": 41, "fork": 57, "vfork": 58, "execve": 59, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
        "lchown": 94, "ptrace": 101, "pivot_root": 155, "chroot": 161, "settimeofday": 164, "mount": 165,
        "umount2": 166, "reboot": 169, "init_module": 175, "delete_module": 176, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "fchownat": 260, "fchmodat": 268,
        "unshare": 272, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "execveat": 322,
        "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "pidfd_getfd": 438, "fchmodat2": 452,
    },
    "aarch64": {
        "socket": 198, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "fchmod": 52, "fchmodat": 53,
        "fchownat": 54, "fchown": 55, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
        "clock_settime": 112, "ptrace": 117, "reboot": 142, "settimeofday": 170, "add_key": 217, "request_key": 218,
        "keyctl": 219, "execve": 221, "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "finit_module": 273, "bpf": 280, "execveat": 281,
        "userfaultfd": 282, "kexec_file_load": 294, "io_uring_setup": 425, "io_uring_enter": 426,
        "io_uring_register": 427, "pidfd_getfd": 438, "fchmodat2": 452,
    },
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000  # the second, rarely used call table of x86-64


def confine(limits: dict[str, Any], scratch: str, parent: int) -> tuple[list[str], list[str]]:
    """Give up everything that parsing, importing and running a model does not need.

    Args:
        limits: `address_space` (bytes or None), `file_bytes` and `open_files`.
        scratch: The only folder in which files may be written.
        parent: Process whose end ends this one.

    Returns:
        What is protected, and what this system could not give; a sentence each.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end: it kills the group
    steps: dict[str, Callable[[], str]] = {
        "limits of files": lambda: _limit_files(limits["file_bytes"], limits["open_files"]),
        "limit of the address space": lambda: _limit_addresses(limits["address_space"]),
        "end together with the parent": lambda: _end_with(parent),
        "writing outside the scratch folder": lambda: _forbid_writing(scratch),
        "network, programs and processes": _forbid_calls,
    }
    active, missing = [], []
    for name, step in steps.items():
        try:
            active.append(step())
        except (OSError, ValueError) as error:
            missing.append(f"{name}: {error}")
    return active, missing


def _limit_files(file_bytes: int, open_files: int) -> str:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, open_files)
    return f"files of at most {file_bytes} bytes, {open_files} open at once, no memory dumps"


def _limit_addresses(size: int | None) -> str:
    if size is None:
        raise OSError("not limited with an accelerator, which reserves more addresses than it uses")
    if sys.platform == "darwin":
        raise OSError("this system does not enforce it")
    _limit(resource.RLIMIT_AS, size)
    return f"address space of at most {size} bytes"


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _end_with(parent: int) -> str:
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    return "ends together with the parent"


def _forbid_writing(scratch: str) -> str:
    version = _call("syscall", _LANDLOCK_CREATE, None, 0, 1)
    writing = _WRITE_FILE | _CHANGE_TREE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rights = [writing] + [_BIND_AND_CONNECT] * (version >= 4) + [_SIGNALS_AND_SOCKETS] * (version >= 6)
    attributes = struct.pack(f"<{len(rights)}Q", *rights)
    ruleset = _call("syscall", _LANDLOCK_CREATE, attributes, len(attributes), 0)
    _allow(ruleset, scratch, writing)
    for device in (path for pattern in _DEVICES for path in glob.glob(pattern)):
        if not os.path.isdir(device):
            _allow(ruleset, device, _WRITE_FILE)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("syscall", _LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return f"no writing outside the scratch folder (Landlock {version})"


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call("syscall", _LANDLOCK_ADD, ruleset, 1, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _forbid_calls() -> str:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _REFUSED:
        raise OSError(f"no list of system calls for {sys.platform} on {machine}")
    program = _filter(machine)
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, and after padding the address of the instructions
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)
    return "no network, no other programs, no other processes (system-call filter)"


def _filter(machine: str) -> bytes:
    """The filter as instructions of the classic packet-filter machine: (code, jump if true, jump if false, value)."""
    load, equal, at_least, test, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, absent, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH[machine]), (give, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":
        program += [(at_least, 0, 1, _X32_BIT), (give, 0, 0, refuse)]
    for number in _REFUSED[machine].values():
        program += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    # The newer call hides its flags behind an address; the C library falls back to the older one, whose flags tell
    # a new thread (allowed) from a new process.
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, absent), (equal, 0, 3, _CLONE[machine])]
    program += [(load, 0, 0, 16), (test, 1, 0, _CLONE_THREAD), (give, 0, 0, refuse), (give, 0, 0, allow)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _call(function: str, *arguments: int | bytes | None) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, function) or sys.platform != "linux":
        raise OSError(f"{sys.platform} has no such call")
    long_arguments = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(getattr(library, function)(*long_arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
