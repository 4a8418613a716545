"""Run a command where the kernel refuses sockets: a seccomp filter, on Linux, x86-64 or arm64.

usage: python nosock.py PROFILE[:ERRNO] COMMAND [ARG ...]

Profiles:
  strict       Every socket system call fails, socketpair() included. No sandbox is known to go so far; what works here
               works in all of them.
  codex        OpenAI's Codex on Linux, the network off: sockets are AF_UNIX only, and nothing can be done with them but
               read(), write(), recvfrom(), sendmsg() and recvmsg(); connect(), bind(), send() and all the others fail.
  codex-2025   The same before December 2025, when sendmsg() and recvmsg() failed as well.
  codex-proxy  Codex with a proxy of its own: sockets are AF_INET and AF_INET6 only; socketpair() is allowed.
  claude       Claude Code on Linux: all sockets but those of AF_UNIX; socketpair() is allowed. (It has a network of its
               own as well, and sets HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.)
  fatal        As strict, but a socket system call kills the process (SIGSYS). Who survives has not even tried one.
               (Some things try that one would not think of: the C library asks nscd for a user's name, so pytest is
               killed.)

ERRNO is how calls fail, EPERM by default: strict:EACCES, strict:ENOSYS, strict:EAFNOSUPPORT.

The filter holds for the command and for all that it starts. Filters add up and cannot be taken off, so inside of this
script it can run again, and the stricter profile wins. The exit code is the command's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["PROFILES", "UnsupportedError", "apply_filter", "architecture", "build_filter", "install"]

# What a filter decides, <linux/seccomp.h>. Of several filters' verdicts the kernel takes the harshest.
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
KILL = 0x80000000

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # <linux/prctl.h>, <linux/seccomp.h>
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_X32 = 0x40000000  # the bit of a system call of the x32 ABI


class _Profile(NamedTuple):
    """What is refused: all calls, but some; and, of those that make a socket, some address families."""

    allowed: frozenset[str] = frozenset()  # "all" is all
    families: Mapping[str, Sequence[int]] = {}  # by call, the only ones that it may have
    no_families: Mapping[str, Sequence[int]] = {}  # by call, those that it may not have


_ALL = frozenset(["all"])
_UNIX_ALONE = {"socket": [_AF_UNIX], "socketpair": [_AF_UNIX]}
_OF_PROFILES = {
    "strict": _Profile(),
    "codex": _Profile(frozenset(["recvfrom", "sendmsg", "recvmsg"]), _UNIX_ALONE),
    "codex-2025": _Profile(frozenset(["recvfrom"]), _UNIX_ALONE),
    "codex-proxy": _Profile(_ALL, {"socket": [_AF_INET, _AF_INET6]}),
    "claude": _Profile(_ALL, no_families={"socket": [_AF_UNIX]}),
    "fatal": _Profile(),
}
PROFILES = tuple(_OF_PROFILES)


class UnsupportedError(RuntimeError):
    """The filter cannot be set on this machine; the text says why."""


class Architecture(NamedTuple):
    """What a filter must know of a processor: how the kernel names it, and its numbers of the system calls."""

    audit_arch: int
    calls: Mapping[str, int]


# io_uring can open a socket, too, without any of the other calls.
_X86_64 = Architecture(
    0xC000003E,
    {
        "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
        "shutdown": 48, "bind": 49, "listen": 50, "getsockname": 51, "getpeername": 52, "socketpair": 53,
        "setsockopt": 54, "getsockopt": 55, "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "io_uring_setup": 425,
    },
)  # fmt: skip
_ARM64 = Architecture(
    0xC00000B7,
    {
        "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203,
        "getsockname": 204, "getpeername": 205, "sendto": 206, "recvfrom": 207, "setsockopt": 208, "getsockopt": 209,
        "shutdown": 210, "sendmsg": 211, "recvmsg": 212, "accept4": 242, "recvmmsg": 243, "sendmmsg": 269,
        "io_uring_setup": 425,
    },
)  # fmt: skip
_ARCHITECTURES = {"x86_64": _X86_64, "amd64": _X86_64, "aarch64": _ARM64, "arm64": _ARM64}


def architecture(system: str, machine: str, pointer_bits: int) -> Architecture:
    """Return what a filter needs for an interpreter.

    Raises:
        UnsupportedError: no filter can be written for it.
    """
    if system != "Linux":
        raise UnsupportedError(f"seccomp filters are Linux's own, and this is {system}")
    if machine.lower() not in _ARCHITECTURES or pointer_bits != 64:
        raise UnsupportedError(
            f"the system calls of {pointer_bits}-bit {machine} are not known here, only those of x86-64 and arm64"
        )
    return _ARCHITECTURES[machine.lower()]


class Instruction(NamedTuple):
    """One of classic BPF, <linux/filter.h>: what to do, how many instructions to skip if true or false, the operand."""

    code: int
    if_true: int
    if_false: int
    operand: int


def _load(offset: int) -> Instruction:
    return Instruction(0x20, 0, 0, offset)  # a word of `struct seccomp_data`


def _skip_if_equal(value: int, if_true: int, if_false: int) -> Instruction:
    return Instruction(0x15, if_true, if_false, value)


def _skip_if_at_least(value: int, if_true: int, if_false: int) -> Instruction:
    return Instruction(0x35, if_true, if_false, value)


def _return(verdict: int) -> Instruction:
    return Instruction(0x06, 0, 0, verdict)


_CALL, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in `struct seccomp_data`; the argument's low half


def build_filter(profile: str, target: Architecture) -> list[Instruction]:
    """Write the BPF program of a profile, which may have an errno's name behind it: ``"strict:EACCES"``.

    Raises:
        ValueError: there is no such profile, or no such errno.
    """
    verdict, calls = _read(profile)
    # The calls of another ABI (i386, x32) have other numbers and would get past the filter.
    program = [_load(_ARCH), _skip_if_equal(target.audit_arch, 1, 0), _return(KILL)]
    program += [_load(_CALL), _skip_if_at_least(_X32, 0, 1), _return(KILL)]
    for name, number in target.calls.items():
        body = list(_judge(name, calls, verdict))
        if body:
            program += [_skip_if_equal(number, 0, len(body)), *body]
    return [*program, _return(ALLOW)]


def _read(profile: str) -> tuple[int, _Profile]:
    name, _, error = profile.partition(":")
    if name not in _OF_PROFILES:
        raise ValueError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    number = getattr(errno, error or "EPERM", None)
    if number is None:
        raise ValueError(f"there is no errno {error!r}")
    return (KILL if name == "fatal" else _ERRNO | number), _OF_PROFILES[name]


def _judge(call: str, profile: _Profile, verdict: int) -> Iterator[Instruction]:
    """Yield what is done where a call is made, in the end to leave; nothing: it is allowed."""
    if call in profile.families:
        yield from _by_family(profile.families[call], ALLOW, verdict)
    elif call in profile.no_families:
        yield from _by_family(profile.no_families[call], verdict, ALLOW)
    elif call not in profile.allowed and "all" not in profile.allowed:
        yield _return(verdict)


def _by_family(families: Iterable[int], verdict: int, of_others: int) -> Iterator[Instruction]:
    yield _load(_FIRST_ARGUMENT)
    for family in families:
        yield _skip_if_equal(family, 0, 1)
        yield _return(verdict)
    yield _return(of_others)


def apply_filter(program: Sequence[Instruction]) -> None:
    """Hand a BPF program to the kernel, for this thread and all the threads and processes that it will start.

    Raises:
        UnsupportedError: the kernel does not take it.
    """

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    nothing = ctypes.c_ulong(0)
    # The kernel asks for the first of an unprivileged process: no setuid program may run under a filter of its choice.
    if prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), nothing, nothing, nothing) == 0:
        argument = ctypes.byref(Program(len(program), ctypes.addressof(code)))
        if prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), argument, nothing, nothing) == 0:
            return
    raise UnsupportedError(f"the kernel refused the seccomp filter: {os.strerror(ctypes.get_errno())}")


def install(profile: str) -> None:
    """Refuse sockets to this thread and to all the threads and processes that it will start; there is no way back.

    Args:
        profile: one of `PROFILES`, or one with an errno, as ``"strict:EACCES"``; see the top of this file.

    Raises:
        ValueError: there is no such profile, or no such errno.
        UnsupportedError: it is not possible on this machine.
    """
    target = architecture(platform.system(), platform.machine(), 8 * struct.calcsize("P"))
    apply_filter(build_filter(profile, target))


def main(args: Sequence[str]) -> str:
    """Become the command, or return what is wrong."""
    if len(args) < 2:
        return f"usage: python nosock.py {{{','.join(PROFILES)}}}[:ERRNO] COMMAND [ARG ...]"
    profile, *command = args
    try:
        install(profile)
        os.execvp(command[0], command)
    except (ValueError, UnsupportedError) as error:
        return f"nosock: {error}"
    except OSError as error:
        return f"nosock: cannot run {command[0]!r}: {error.strerror}"


if __name__ == "__main__":
    print(main(sys.argv[1:]), file=sys.stderr)
    sys.exit(2)
