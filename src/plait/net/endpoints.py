"""Endpoint: where a server listens or a client connects, as a URL.

Rules: `Endpoint.parse` takes every form, `str` prints one, and `Endpoint.parse(str(e)) == e`. What is unknown, or
means nothing for its scheme, is an EndpointError that names the text, the part and the right form. Nothing here
touches a file, a socket or a name server. Two tables say all: `_FORMS`, the schemes, and `_QUERY`, what may follow
the question mark.

    tcp://host:port      tls://host:port?cert=&key=&ca=      unix:///path?mode=660      udp://host:port
    fd://3               systemd://name                      host:port, short for tcp://host:port
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, NoReturn, get_args
from urllib.parse import quote, unquote

from plait.errors import EndpointError

Scheme = Literal["tcp", "tls", "unix", "udp", "fd", "systemd"]
Proxy = Literal["v1", "v2"]

SCHEMES: tuple[str, ...] = get_args(Scheme)

_FORMS: dict[str, str] = {
    "tcp": "tcp://host:port",
    "tls": "tls://host:port?cert=FILE&key=FILE",
    "unix": "unix:///path/of/the.sock",
    "udp": "udp://host:port",
    "fd": "fd://3",
    "systemd": "systemd://name",
}
_MEANT = {
    "http": "tcp",
    "https": "tls",
    "ssl": "tls",
    "tcp4": "tcp",
    "tcp6": "tcp",
    "udp4": "udp",
    "udp6": "udp",
    "file": "unix",
    "sd": "systemd",
}
"""What people write for a scheme, and mean."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, or a client connects. Make it with `Endpoint.parse`, print it with `str`.

    An empty `host` is all of this machine's addresses; `port` 0 is a free one. What the query leaves out is None,
    or the default shown here.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    """Of a unix socket."""
    name: str = ""
    """Of a socket that systemd passes, in LISTEN_FDNAMES."""
    fd: int = -1
    """Number of an inherited descriptor."""
    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    verify: bool = True
    """Whether a client checks the server's certificate."""
    backlog: int | None = None
    nodelay: bool = True
    proxy: Proxy | None = None
    mode: int | None = None
    """Permissions of a unix socket's file."""
    rcvbuf: int | None = None
    """Bytes of a datagram socket's receive buffer."""

    @classmethod
    def parse(cls, text: str | Endpoint) -> Endpoint:
        """The endpoint that `text` writes; an Endpoint is returned as it is. EndpointError says what is wrong."""
        if isinstance(text, Endpoint):
            return text
        if not isinstance(text, str):
            raise EndpointError(f"endpoint {text!r} is a {type(text).__name__}; write it as text: tcp://host:port")
        return _Parser(text).endpoint()

    def __str__(self) -> str:
        return f"{self.scheme}://{self._place()}{self._query()}"

    @property
    def address(self) -> Endpoint:
        """The same place without its query: what a person needs to connect."""
        return Endpoint(self.scheme, self.host, self.port, self.path, self.name, self.fd)

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted: `tls://`, or a certificate for an inherited or unix socket."""
        return self.scheme == "tls" or self.cert is not None

    def at(self, host: str, port: int) -> Endpoint:
        """The same endpoint with a numeric address, as the system gave it."""
        return replace(self, host=host, port=port)

    def _place(self) -> str:
        if self.scheme == "unix":
            return quote(self.path, safe="/@:+,=~")
        if self.scheme == "fd":
            return str(self.fd)
        if self.scheme == "systemd":
            return quote(self.name, safe="@+,=~")
        host = self.host
        if ":" in host:
            address, percent, zone = host.partition("%")
            host = f"[{address}{'%25' if percent else ''}{zone}]"
        return f"{host}:{self.port}"

    def _query(self) -> str:
        pairs = [f"{name}={entry.show(value)}" for name, entry, value in self._set()]
        return f"?{'&'.join(pairs)}" if pairs else ""

    def _set(self) -> Iterator[tuple[str, _Entry, Any]]:
        for name, entry in _QUERY.items():
            value = getattr(self, name)
            if value is not None and value is not entry.default:
                yield name, entry, value

    # -- what it can be used for -------------------------------------------------------------------------------------

    def for_streams(self) -> Endpoint:
        """This endpoint, if connections can be accepted there; else EndpointError."""
        if self.scheme == "udp":
            self._refuse("udp", "takes datagrams, and a Server connections", "use a DatagramServer")
        if not self.verify:
            self._refuse("verify=no", "is for a Client", "for a server leave out ca=, and clients need no certificate")
        if self.scheme == "tls" and not self.cert:
            self._refuse("cert", "is missing, and a TLS server needs one", f"write {_FORMS['tls']}")
        if self.is_tls is False and (self.key or self.ca):
            self._refuse("key" if self.key else "ca", "means nothing without cert", "add cert=FILE, or leave it out")
        return self

    def for_datagrams(self) -> Endpoint:
        """This endpoint, if datagrams can be received there; else EndpointError."""
        if self.scheme in ("tcp", "tls"):
            self._refuse(self.scheme, "takes connections, and a DatagramServer datagrams", "write udp://host:port")
        for name in ("proxy", "backlog", "cert", "key", "ca"):
            if getattr(self, name) is not None:
                self._refuse(name, "means nothing for datagrams", "leave it out")
        return self

    def for_client(self) -> Endpoint:
        """This endpoint, if a client can connect there; else EndpointError."""
        if self.scheme not in ("tcp", "tls", "unix"):
            self._refuse(self.scheme, "is nothing a client can connect to", "write tcp://, tls:// or unix://")
        if self.scheme != "unix" and not self.host:
            self._refuse("host", "is empty, which only a server may listen on", "name the host to connect to")
        if self.scheme != "unix" and not self.port:
            self._refuse("port", "is 0, which only a server may listen on", "name the port to connect to")
        for name in ("backlog", "proxy", "mode"):
            if getattr(self, name) is not None:
                self._refuse(name, "is for a server", "leave it out")
        return self

    def _refuse(self, part: str, why: str, cure: str) -> NoReturn:
        raise EndpointError(f"endpoint {str(self)!r}: {part} {why}; {cure}")


# -- the query -------------------------------------------------------------------------------------------------------

_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return read


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError
    return int(text, 8)


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError
    return text


class _Entry(NamedTuple):
    """One key of the query: how it is read and printed, and which schemes have it."""

    read: Callable[[str], Any]
    show: Callable[[Any], str]
    expected: str
    schemes: tuple[str, ...]
    default: Any = None


def _quoted(value: str) -> str:
    return quote(value, safe="/@:+,~")


_FILE = (_file, _quoted)
_SWITCH = (_BOOLEANS.__getitem__, lambda value: "yes" if value else "no")
_ACCEPTING = ("tcp", "tls", "unix", "fd", "systemd")
_SECURE = ("tls", "fd", "systemd", "unix")

_QUERY: dict[str, _Entry] = {
    "cert": _Entry(*_FILE, "the file of a certificate, in PEM", _SECURE),
    "key": _Entry(*_FILE, "the file of a private key, in PEM", _SECURE),
    "ca": _Entry(*_FILE, "the file of the authorities to trust, in PEM", _SECURE),
    "verify": _Entry(*_SWITCH, "yes or no", ("tls",), True),
    "backlog": _Entry(_number(1, 65535), str, "a number from 1 to 65535", _ACCEPTING),
    "nodelay": _Entry(*_SWITCH, "yes or no", ("tcp", "tls", "fd", "systemd"), True),
    "proxy": _Entry({"v1": "v1", "v2": "v2"}.__getitem__, str, "v1 or v2", _ACCEPTING),
    "mode": _Entry(_mode, lambda value: f"{value:03o}", "permissions in octal, as 660", ("unix",)),
    "rcvbuf": _Entry(_number(1, 2**31 - 1), str, "a number of bytes", ("udp", "unix", "fd", "systemd")),
}


# -- reading ---------------------------------------------------------------------------------------------------------


class _Parser:
    """Reads one text; every complaint names it whole."""

    def __init__(self, text: str) -> None:
        self.text = text

    def endpoint(self) -> Endpoint:
        rest, question, query = self.text.partition("?")
        scheme, rest = self._scheme(rest)
        place = _PLACES[scheme](self, rest)
        values = dict(self._pair(scheme, pair) for pair in query.split("&")) if question else {}
        if query.count("&") + 1 > len(values) and question:
            self._fail("?" + query, "names a key twice", "give each key once")
        return Endpoint(scheme, **place, **values)

    def _scheme(self, rest: str) -> tuple[Any, str]:
        scheme, separator, after = rest.partition("://")
        if separator:
            known = scheme.lower()
            if known not in _FORMS:
                nearest = _MEANT.get(known) or _nearest(known, SCHEMES)
                cure = f"did you mean {nearest}://?" if nearest else f"there are {', '.join(SCHEMES)}"
                self._fail(scheme or "://", "is no scheme", cure)
            return known, after
        word = rest.partition(":")[0].lower()
        if word in _FORMS and word != "tcp" and not rest[len(word) + 1 :].isdigit():
            self._fail(word + ":", "is written with two slashes", f"write {_FORMS[word]}")
        if rest.isdigit():
            self._fail(rest, "is a port without a host", f"write 127.0.0.1:{rest}, or :{rest} for all addresses")
        return "tcp", rest

    def _host_port(self, rest: str) -> dict[str, Any]:
        host, colon, port = rest.rpartition(":")
        if rest.endswith("]") or not colon:
            self._fail(rest or "://", "has no port", "write host:port")
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            self._fail(f"port {port!r}", "is no number from 0 to 65535", "write host:port and nothing after it")
        if host.startswith("[") and host.endswith("]"):
            return {"host": self._ipv6(host[1:-1]), "port": int(port)}
        if ":" in host:
            self._fail(host, "is no host", f"an IPv6 address stands in brackets: [{host}]:{port}")
        if host == "*":
            host = ""
        if not re.fullmatch(r"[\w.\-]*", host):
            self._fail(f"host {host!r}", "is no host name", "write a name or an address, without user or path")
        return {"host": host, "port": int(port)}

    def _ipv6(self, host: str) -> str:
        address, percent, zone = host.partition("%")
        if percent and zone.startswith("25") and len(zone) > 2:
            zone = zone[2:]
        if not re.fullmatch(r"[0-9A-Fa-f:.]+", address) or ":" not in address:
            self._fail(f"[{host}]", "is no IPv6 address", "only those stand in brackets")
        if percent and not re.fullmatch(r"[\w.\-]+", zone):
            self._fail(f"[{host}]", "has no zone after its %", "write [fe80::1%eth0]")
        return f"{address}%{zone}" if percent else address

    def _path(self, rest: str) -> dict[str, Any]:
        path = unquote(rest)
        if not path.startswith("/"):
            nearer = f"unix:///{path}" if path else _FORMS["unix"]
            self._fail(f"path {path!r}", "does not begin with a slash", f"write an absolute path: {nearer}")
        if path.endswith("/") or "\0" in path:
            self._fail(f"path {path!r}", "names no file", f"write {_FORMS['unix']}")
        return {"path": path}

    def _descriptor(self, rest: str) -> dict[str, Any]:
        if not (rest.isascii() and rest.isdigit() and len(rest) < 10):
            self._fail(f"descriptor {rest!r}", "is no number", f"write {_FORMS['fd']}")
        return {"fd": int(rest)}

    def _name(self, rest: str) -> dict[str, Any]:
        name = unquote(rest)
        if not name or ":" in name or "/" in name or "\0" in name:
            self._fail(f"name {name!r}", "is no FileDescriptorName=", f"write {_FORMS['systemd']}")
        return {"name": name}

    def _pair(self, scheme: str, pair: str) -> tuple[str, Any]:
        key, equals, text = pair.partition("=")
        entry = _QUERY.get(key)
        known = [name for name, other in _QUERY.items() if scheme in other.schemes]
        if entry is None:
            nearest = _nearest(key, known)
            self._fail(f"query {key!r}", "is unknown", f"did you mean {nearest}?" if nearest else _listed(known))
        if scheme not in entry.schemes:
            self._fail(f"query {key!r}", f"means nothing for {scheme}://", _listed(known))
        try:
            return key, entry.read(unquote(text))
        except (ValueError, KeyError):
            self._fail(f"{key}{equals}{text}", "is not understood", f"{key} is {entry.expected}")

    def _fail(self, part: str, why: str, cure: str) -> NoReturn:
        raise EndpointError(f"endpoint {self.text!r}: {part} {why}; {cure}")


_PLACES: dict[str, Callable[[_Parser, str], dict[str, Any]]] = {
    "tcp": _Parser._host_port,
    "tls": _Parser._host_port,
    "udp": _Parser._host_port,
    "unix": _Parser._path,
    "fd": _Parser._descriptor,
    "systemd": _Parser._name,
}


def _nearest(word: str, among: tuple[str, ...] | list[str]) -> str | None:
    from difflib import get_close_matches  # only on the way to an error

    return next(iter(get_close_matches(word, among, 1)), None)


def _listed(known: list[str]) -> str:
    return f"there are {', '.join(known)}"
