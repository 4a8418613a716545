"""What virtual sockets do otherwise than real ones, and why: each is asserted to fail, so that the table stays true."""

from __future__ import annotations

DESCRIPTORS = "pipes carry no descriptors (SCM_RIGHTS): EOPNOTSUPP says so"
NUMBER = "the number is the reading end of a pipe, and is written to by another one; C code that has it sees that"
BITS = "poll() says of a pipe's end what it says of a pipe's; what selectors make of the bits is the same"
TWO = "a connection has two descriptors, and the next file may get the number of the other one"
OPTIONS = "an option is kept and told, not known: there is no protocol behind it that would refuse it or have a default"
TRIO = "trio keeps methods of the class that it found when it was imported: it must be after install()"
PEER = "who sends does not know of the other side's socket, only of its pipe"
DATAGRAM = "a datagram goes into the pipe of who is bound, which knows nothing of who has sent it"
FILED = "a UNIX socket is found by the file that it is named by, not by the path"

LACKS = {
    "binding.file_moves": FILED,
    "binding.kind_of_a_unix_socket-path": "each kind has names of its own, so nobody of the other kind is there",
    "binding.no_address_of_unix": "an abstract name of nobody's choosing has one letter more or less than Linux's",
    "binding.relative_path": FILED,
    "binding.reuse_after_close": "a port is its listener's: connections do not hold it, and a test may have it sooner",
    "connecting.backlog_is_full-tcp": "a connect that does not wait is let in: no descriptor could tell it of room",
    "connecting.in_progress_and_refused": "a refused connect that did not wait is told once, by whichever asks first",
    "datagrams.backlog_of_unix-path": DATAGRAM,
    "datagrams.backlog_of_unix-abstract": DATAGRAM,
    "datagrams.connected_to_nobody": "ECONNREFUSED is told to who receives, not to who sends next",
    "datagrams.descriptors_by_datagram": DESCRIPTORS,
    "datagrams.end_of_a_pair": PEER,
    "datagrams.has_an_address_once_connected-tcp6": "as long as nobody has bound it, its host is unspecified",
    "datagrams.only_from_the_peer_of_unix": DATAGRAM,
    "datagrams.shut-pair": PEER,
    "datagrams.to_port_0-tcp4": "nobody is at port 0, so what is sent there is lost",
    "datagrams.too_long_for_the_buffer": "MSG_TRUNC as an argument of recvmsg_into() is not known",
    "datagrams.unix_to_nobody": "a peer that has gone is looked for again",
    "loops.datagram_endpoints-tcp6": "as long as nobody has bound it, its host is unspecified",
    "names.hosts": "a host that cannot be is asked of the resolver",
    "names.numbers": "SOCK_RAW is not loopback's",
    "names.what_is_not_found": "a host that cannot be is asked of the resolver",
    "objects.file_of_the_descriptor": NUMBER,
    "objects.from_a_descriptor-tcp": "a number says nothing of a protocol: proto is 0",
    "objects.numbers_are_reused-tcp": TWO,
    "objects.numbers_are_reused-path": TWO,
    "objects.numbers_are_reused-abstract": TWO,
    "objects.seen_by_fstat": NUMBER,
    "options.as_bytes": OPTIONS,
    "options.accepted_like_the_listener-path": OPTIONS,
    "options.accepted_like_the_listener-abstract": OPTIONS,
    "options.more_of_tcp": OPTIONS,
    "options.nobody_is_there": OPTIONS,
    "options.options_of_ip": OPTIONS,
    "options.options_of_ipv6": OPTIONS,
    "options.switches": OPTIONS,
    "options.times_of_keepalive": OPTIONS,
    "options.unknown": OPTIONS,
    "options.what_it_is-tcp": OPTIONS,
    "options.who_is_there-path": OPTIONS,
    "options.who_is_there-abstract": OPTIONS,
    "readiness.bits_of_a_closed_peer": BITS,
    "readiness.bits_of_the_closed": BITS,
    "readiness.bits_of_the_connected": BITS,
    "readiness.bits_of_the_reset": BITS,
    "readiness.bits_of_the_unconnected": BITS,
    "readiness.bits_of_what_is_waited_for": BITS,
    "readiness.unconnected": BITS,
    "states.no_more_reading": "after SHUT_RD nothing more comes, even so",
    "states.no_more_reading_of_unix": PEER,
    "states.sender_waits_for_a_peer_that_closes-path": PEER,
    "states.sender_waits_for_a_peer_that_closes-abstract": PEER,
    "states.sender_waits_for_a_peer_that_closes-pair": PEER,
    "transfer.descriptors_that_nobody_takes": DESCRIPTORS,
    "transfer.no_address_of_a_unix_stream": "sendto() of one that is not connected is ENOTCONN, as send() is",
    "transfer.no_descriptors_over_ip": DESCRIPTORS,
    "transfer.out_of_band": "a pipe has no urgent data",
    "transfer.sends_descriptors": DESCRIPTORS,
    "transfer.sends_sockets": DESCRIPTORS,
    "transfer.sizes_that_cannot_be": "the text of recvfrom_into() is that of recv_into()",
    "trio_and_anyio.anyio_closes": TRIO,
    "trio_and_anyio.anyio_tcp": TRIO,
    "trio_and_anyio.anyio_udp": TRIO,
    "trio_and_anyio.as_trio_wants_it": TRIO,
    "trio_and_anyio.closes": TRIO,
    "trio_and_anyio.datagrams_of_trio": TRIO,
    "trio_and_anyio.serves": TRIO,
    "trio_and_anyio.sockets_of_trio": TRIO,
    "trio_and_anyio.unix": TRIO,
    "trio_and_anyio.waits": TRIO,
}


def why_not(name: str) -> str | None:
    """Return why virtual sockets fail a check; `None`: they must not."""
    subject = name.rpartition("-")[0]
    return next(
        (reason for key, reason in LACKS.items() if key == subject or ("-" in key and name.startswith(key))), None
    )
