"""What virtual sockets do otherwise than real ones, and why: each is asserted to fail, so that the table stays true."""

from __future__ import annotations

DESCRIPTORS = "pipes carry no descriptors (SCM_RIGHTS): EOPNOTSUPP says so"
NUMBER = "the number is the reading end of a pipe, and is written to by another one; C code that has it sees that"
TWO = "a connection has two descriptors, and the next file may get the number of the other one"
PEER = "who sends does not know of the other side's socket, only of its pipe"
DATAGRAM = "a datagram goes into the pipe of who is bound, which knows nothing of who has sent it"

LACKS = {
    "connecting.backlog_is_full-tcp": "a connect that does not wait is let in: no descriptor could tell it of room",
    "connecting.in_progress_and_refused": "where real sockets are allowed, it becomes one of those, and stays one",
    "datagrams.descriptors_by_datagram-path": DESCRIPTORS,
    "datagrams.descriptors_by_datagram-abstract": DESCRIPTORS,
    "datagrams.only_from_the_peer_of_unix": DATAGRAM,
    "names.hosts": "a host that cannot be is asked of the resolver",
    "names.numbers": "SOCK_RAW is not loopback's",
    "names.what_is_not_found": "a host that cannot be is asked of the resolver",
    "objects.file_of_the_descriptor": NUMBER,
    "objects.from_a_descriptor-tcp": "a number says nothing of a protocol: proto is 0",
    "objects.numbers_are_reused-tcp": TWO,
    "objects.numbers_are_reused-path": TWO,
    "objects.numbers_are_reused-abstract": TWO,
    "objects.seen_by_fstat": NUMBER,
    "states.no_more_reading": "after SHUT_RD nothing more comes, even so",
    "states.no_more_reading_of_unix": PEER,
    "transfer.descriptors_that_nobody_takes": DESCRIPTORS,
    "transfer.out_of_band": "a pipe has no urgent data",
    "transfer.sends_descriptors": DESCRIPTORS,
    "transfer.sends_sockets": DESCRIPTORS,
}


def why_not(name: str) -> str | None:
    """Return why virtual sockets fail a check; `None`: they must not."""
    subject = name.rpartition("-")[0]
    return next(
        (reason for key, reason in LACKS.items() if key == subject or ("-" in key and name.startswith(key))), None
    )
