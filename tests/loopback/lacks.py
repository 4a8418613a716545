"""What virtual sockets do otherwise than real ones, and why: each is asserted to fail, so that the table stays true."""

from __future__ import annotations

DESCRIPTORS = "pipes carry no descriptors (SCM_RIGHTS): EOPNOTSUPP says so"
NUMBER = "the number is the reading end of a pipe, and is written to by another one; C code that has it sees that"
TWO = "a connection has two descriptors, and the next file may get the number of the other one"
PEER = "who sends does not know of the other side's socket, only of its pipe"
DATAGRAM = "a datagram goes into the pipe of who is bound, which knows nothing of who has sent it"

LACKS = {
    "connecting.backlog_is_full-tcp": "a connect that does not wait is let in: no descriptor could tell it of room",
    "datagrams.descriptors_by_datagram-path": DESCRIPTORS,
    "datagrams.descriptors_by_datagram-abstract": DESCRIPTORS,
    "datagrams.only_from_the_peer_of_unix": DATAGRAM,
    "objects.file_of_the_descriptor": NUMBER,
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

# What they lack where real ones are allowed.
LACKS_BESIDE_REAL = {
    "connecting.in_progress_and_refused": "who finds nobody of ours becomes a real socket, and stays one",
}

# What is not on loopback, and so is for a real socket, or for the resolver: where those are refused, it cannot be.
BEYOND = {
    "binding.elsewhere",
    "binding.no_address_of_ip",
    "binding.no_such_host",
    "datagrams.names_of_hosts",
    "datagrams.to_port_0",
    "loops.unresolved",
    "names.what_is_not_found",
    "objects.bare",
    "objects.kinds_that_cannot_be",
    "objects.other_families_go_on",
    "objects.pairs",
}


def why_not(name: str, *, real_too: bool) -> str | None:
    """Return why virtual sockets fail a check, where there are real ones, too, or not; `None`: they must not."""
    subject = name.rpartition("-")[0]
    lacks = LACKS | LACKS_BESIDE_REAL if real_too else LACKS
    return next((reason for key, reason in lacks.items() if key in (subject, name, name.rstrip("46"))), None)
