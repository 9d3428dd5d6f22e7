"""The proxy at work: a socket, a server, and its end."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Iterable

import uvicorn

from ttc_sim.base.errors import InputError
from ttc_sim.collecting.endpoints import unencrypted
from ttc_sim.deploying.proxy.app import Proxy
from ttc_sim.deploying.proxy.upstreams import Upstream

GRACE_S = 10
"""That answers under way have to end, once the server is told to."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Args:
        port: 0 for any that is free.

    Raises:
        InputError: no such host here, or a port that is taken or not for everyone.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise InputError("serve", "--host", host, "an address of this machine, such as 127.0.0.1") from None
    family, kind, protocol, _, at = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let a port be taken twice
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(at)
        made.listen(2048)
    except OSError as error:
        made.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            expected = f"a port that is free on {host} ({os.strerror(error.errno or 0)}); --port 0 takes any"
            raise InputError("serve", "--port", port, expected) from None
        expected = f"an address of this machine, such as 127.0.0.1 ({os.strerror(error.errno or 0)})"
        raise InputError("serve", "--host", host, expected) from None
    return made


def address_of(made: socket.socket) -> str:
    """Where a client finds it."""
    host, port, *_ = made.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def warnings(host: str, upstreams: Iterable[Upstream]) -> list[str]:
    """What whoever runs the proxy should know, a line each."""
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = host == "localhost"
    said = [] if alone else [f"whoever reaches {host} spends the deployments' keys: nobody has to log in here"]
    return said + [
        f"the key of {one.deployment} goes to {at} unencrypted, by http"
        for one in upstreams
        if one.address.key and (at := unencrypted(one.address.url)) is not None
    ]


def serve(proxy: Proxy, at: socket.socket) -> None:
    """Answer requests until the process is told to end; what is under way has :data:`GRACE_S` to be finished then.

    Raises:
        KeyboardInterrupt: it was ended by Ctrl-C; after SIGTERM it returns.
    """
    config = uvicorn.Config(
        proxy.app(),
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    # The server raises the signal that ended it once more when it has ended.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        uvicorn.Server(config).run(sockets=[at])
    finally:
        signal.signal(signal.SIGTERM, before)


__all__ = ["GRACE_S", "address_of", "listening", "serve", "warnings"]
