"""Endpoint: parses and prints URLs, and says what is wrong with a text."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import EndpointError
from plait.net import Endpoint

PORTS = st.integers(0, 65535)
HOSTS = st.sampled_from(["", "127.0.0.1", "localhost", "::1", "fe80::1%eth0", "example.org"])
FILES = st.text(string.ascii_letters + string.digits + "/+&=%?#. ~é", min_size=1, max_size=20)
BACKLOGS = st.integers(1, 9999)

ENDPOINTS = st.one_of(
    st.builds(
        Endpoint, scheme=st.just("tcp"), host=HOSTS, port=PORTS, backlog=BACKLOGS, nodelay=st.booleans(),
        proxy=st.sampled_from(["", "v1", "v2"]),
    ),
    st.builds(Endpoint, scheme=st.just("tls"), host=HOSTS, port=PORTS, cert=FILES, key=FILES, ca=FILES),
    st.builds(Endpoint, scheme=st.just("udp"), host=HOSTS, port=PORTS),
    st.builds(
        Endpoint, scheme=st.just("unix"), path=FILES.map(lambda text: "/" + text),
        mode=st.one_of(st.none(), st.integers(0, 0o777)),
    ),
    st.builds(Endpoint, scheme=st.just("fd"), fd=st.integers(0, 999)),
    st.builds(Endpoint, scheme=st.just("systemd"), name=FILES),
)  # fmt: skip


@given(ENDPOINTS)
def test_what_is_printed_parses_to_the_same(endpoint: Endpoint) -> None:
    """For every endpoint there is."""
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_an_endpoint_error(text: str) -> None:
    """Nothing else comes out, and what parses prints to what parses again."""
    try:
        endpoint = Endpoint.parse(text)
    except EndpointError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpc://h:1", "there is no scheme 'tpc'; did you mean 'tcp'?"),
        ("127.0.0.1", "it has no port; write host:port"),
        ("tcp://h:70000", "'70000' is no port; it takes a number from 0 to 65535"),
        ("tcp://::1:80", "an IPv6 address stands in brackets, as '[::1]:80'"),
        ("tcp://[h]:80", "no IPv6 address"),
        ("tcp://h:1?backlogg=3", "tcp:// takes no 'backlogg'; did you mean 'backlog'?"),
        ("tcp://h:1?backlog=0", "a number of connections above zero"),
        ("tcp://h:1?backlog=1&backlog=2", "'backlog' is given twice"),
        ("tcp://h:1?proxy=v3", "it may be v1 or v2"),
        ("tcp://h:1?nodelay=maybe", "it may be yes or no"),
        ("tls://h:1?key=k", "a key and no certificate"),
        ("tls://h:1?cert=", "'cert' is empty"),
        ("unix://run/x", "three slashes"),
        ("unix:/run/x", "a path stands behind unix://"),
        ("unix:///x?mode=9", "three octal digits"),
        ("unix:///" + "x" * 200, "at most 107 bytes"),
        ("fd://x", "no file descriptor"),
        ("systemd://", "FileDescriptorName"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    """With the whole text, the part, and the right form."""
    with pytest.raises(EndpointError) as caught:
        Endpoint.parse(text)
    assert repr(text) in str(caught.value)
    assert message in str(caught.value)


def test_short_and_long_form_are_one() -> None:
    """host:port is tcp."""
    assert Endpoint.parse("h:1") == Endpoint.parse("tcp://h:1") == Endpoint.parse(Endpoint.parse("h:1"))
