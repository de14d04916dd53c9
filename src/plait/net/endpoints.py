"""Endpoint: where a server listens or a client connects, as a URL.

Rules: one type parses and prints them, and `Endpoint.parse(str(endpoint)) == endpoint`. What a scheme does not know is
an error that names the text and the nearest right word. Nothing here touches a socket or a file.

    tcp://host:port     host may be empty (all addresses), [::1] for IPv6; port 0 lets the system choose
    host:port           short for tcp://
    tls://host:port?cert=FILE&key=FILE&ca=FILE
    udp://host:port
    unix:///path?mode=660
    fd://N              a listening socket this process inherited
    systemd://NAME      one that systemd passed, by its FileDescriptorName
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, Self
from urllib.parse import quote, unquote

from plait.errors import EndpointError

Scheme = Literal["tcp", "tls", "udp", "unix", "fd", "systemd"]

_LISTENING = ("backlog", "nodelay", "proxy")
_KEYS: dict[str, tuple[str, ...]] = {
    "tcp": _LISTENING,
    "tls": (*_LISTENING, "cert", "key", "ca"),
    "udp": (),
    "unix": ("backlog", "proxy", "mode"),
    "fd": ("nodelay", "proxy", "backlog"),
    "systemd": ("nodelay", "proxy", "backlog"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)

BACKLOG = 1024
"""How many connections the kernel queues: a pause of a second at a thousand connections a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to listen or connect. `str()` gives the URL; EndpointError says what is wrong with a text.

    `host` and `port` are set for tcp, tls and udp, `path` for unix, `fd` for fd, `name` for systemd. The others are
    the query's: `backlog` in connections, `nodelay` for TCP_NODELAY, `proxy` the version of the PROXY protocol that
    connections begin with, `mode` of a unix socket's file, and the files of TLS in PEM form.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    name: str = ""
    backlog: int = BACKLOG
    nodelay: bool = True
    proxy: Literal["", "v1", "v2"] = ""
    mode: int | None = None
    cert: str = ""
    key: str = ""
    ca: str = ""

    @classmethod
    def parse(cls, text: str | Endpoint) -> Self:
        """The endpoint a text means; an Endpoint is returned as it is."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise EndpointError(f"{text!r} is no endpoint; it takes a URL as 'tcp://127.0.0.1:8000'")
        return cls(**_Parser(text).fields())

    def __str__(self) -> str:
        query = "&".join(
            f"{name}={quote(text, safe='/:@,~')}"
            for name, default, text in self._query()
            if getattr(self, name) != default
        )
        return f"{self.scheme}://{self._place()}" + (f"?{query}" if query else "")

    @property
    def is_stream(self) -> bool:
        """Whether it carries connections, rather than datagrams."""
        return self.scheme != "udp"

    @property
    def address(self) -> str:
        """The endpoint without its query, which is what people connect to."""
        return f"{self.scheme}://{self._place()}"

    def _place(self) -> str:
        if self.scheme == "unix":
            return quote(self.path, safe="/@:+,~=!$&'()*;")
        if self.scheme == "fd":
            return str(self.fd)
        if self.scheme == "systemd":
            return quote(self.name, safe="@:+,~=")
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _query(self) -> list[tuple[str, Any, str]]:
        mode = f"{self.mode:03o}" if self.mode is not None else ""
        return [
            ("cert", "", self.cert),
            ("key", "", self.key),
            ("ca", "", self.ca),
            ("backlog", BACKLOG, str(self.backlog)),
            ("nodelay", True, "yes" if self.nodelay else "no"),
            ("proxy", "", self.proxy),
            ("mode", None, mode),
        ]


@dataclass
class _Parser:
    """One text on its way to an Endpoint's fields."""

    text: str
    found: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        match = _SCHEME.fullmatch(self.text)
        scheme, rest = (match[1].lower(), match[2]) if match else ("tcp", self.text)
        if scheme not in _KEYS:
            self.fail(f"there is no scheme {scheme!r}; {_nearest(scheme, tuple(_KEYS))}")
        place, _, query = rest.partition("?")
        self.found["scheme"] = scheme
        getattr(self, f"place_{'host' if scheme in ('tcp', 'tls', 'udp') else scheme}")(place)
        self.query(scheme, query)
        return self.found

    def fail(self, what: str) -> Any:
        raise EndpointError(f"endpoint {self.text!r}: {what}")

    def place_host(self, place: str) -> None:
        host, colon, port = place.rpartition(":")
        if "/" in place:
            self.fail(f"{place!r} is no host:port; a path stands behind unix://, as 'unix:///run/app.sock'")
        if not colon or not port:
            self.fail("it has no port; write host:port, as 'tcp://127.0.0.1:8000' (port 0 lets the system choose)")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            self.fail(f"{port!r} is no port; it takes a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if ":" not in host:
                self.fail(f"{host!r} in brackets is no IPv6 address")
        elif ":" in host:
            self.fail(f"an IPv6 address stands in brackets, as '[{host}]:{port}'")
        if not re.fullmatch(r"[A-Za-z0-9._:%*-]*", host):
            self.fail(f"{host!r} is no host")
        self.found |= {"host": "" if host == "*" else host, "port": int(port)}

    def place_unix(self, place: str) -> None:
        path = unquote(place)
        if not path.startswith("/"):
            self.fail("a unix socket's path is absolute; write three slashes, as 'unix:///run/app.sock'")
        if "\0" in path or len(path.encode(errors="surrogateescape")) > 107:
            self.fail("a unix socket's path has at most 107 bytes, and no NUL")
        self.found["path"] = path

    def place_fd(self, place: str) -> None:
        if not re.fullmatch(r"[0-9]{1,6}", place):
            self.fail(f"{place!r} is no file descriptor; write its number, as 'fd://3'")
        self.found["fd"] = int(place)

    def place_systemd(self, place: str) -> None:
        if not place:
            self.fail("it names no socket; write the unit's FileDescriptorName, as 'systemd://http'")
        self.found["name"] = unquote(place)

    def query(self, scheme: str, query: str) -> None:
        for part in query.split("&") if query else ():
            key, _, value = (unquote(word) for word in part.partition("="))
            if key in self.found:
                self.fail(f"{key!r} is given twice; keep one")
            if key not in _KEYS[scheme]:
                self.fail(f"{scheme}:// takes no {key!r}; {_nearest(key, _KEYS[scheme])}")
            self.found[key] = getattr(self, f"read_{key}", self.read_text)(key, value)
        if scheme == "tls" and bool(self.found.get("key")) and not self.found.get("cert"):
            self.fail("it has a key and no certificate; add cert=FILE")

    def read_text(self, key: str, value: str) -> str:
        return value or self.fail(f"{key!r} is empty; name a file")

    def read_backlog(self, key: str, value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) == 0:
            self.fail(f"backlog is {value!r}; it takes a number of connections above zero")
        return int(value)

    def read_nodelay(self, key: str, value: str) -> bool:
        words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        return words[value] if value in words else self.fail(f"nodelay is {value!r}; it may be yes or no")

    def read_proxy(self, key: str, value: str) -> str:
        return value if value in ("v1", "v2") else self.fail(f"proxy is {value!r}; it may be v1 or v2")

    def read_mode(self, key: str, value: str) -> int:
        if not re.fullmatch(r"0?[0-7]{3}", value):
            self.fail(f"mode is {value!r}; it takes three octal digits, as 660")
        return int(value, 8)


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known) or 'nothing to add'}"
