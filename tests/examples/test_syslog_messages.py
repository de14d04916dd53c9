"""The collector's parser and framing: what real senders send, what nobody should send, in chunks of any size."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syslog_messages import Frames, Message, parse

SENDER = "192.0.2.1"
RECEIVED = datetime(2026, 3, 1, 12, 0, 0).timestamp()  # RFC 3164 times are local


def read(raw: bytes) -> Message:
    """`raw` as received from SENDER at RECEIVED."""
    return parse(raw, SENDER, RECEIVED)


# -- RFC 5424 ----------------------------------------------------------------------------------------------------------


def test_every_field_of_rfc_5424_is_read() -> None:
    """The RFC's own example 3, with structured data of two elements, a byte order mark and UTF-8."""
    message = read(
        b'<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 17 ID47 [exampleSDID@32473 iut="3" '
        b'eventSource="Application"][examplePriority@32473 class="high"] \xef\xbb\xbfAn event \xe2\x9c\x93'
    )
    assert message == Message(
        received=RECEIVED,
        time=datetime(2003, 10, 11, 22, 14, 15, 3000, tzinfo=UTC).timestamp(),
        facility=20,
        severity=5,
        host="mymachine.example.com",
        app="evntslog",
        procid="17",
        msgid="ID47",
        data={
            "exampleSDID@32473": {"iut": ["3"], "eventSource": ["Application"]},
            "examplePriority@32473": {"class": ["high"]},
        },
        text="An event ✓",
    )


def test_nil_values_are_empty_and_the_sender_stands_in_for_the_host() -> None:
    """A "-" means that there is none; where and when are then those of the reception."""
    assert read(b"<0>1 - - - - - -") == Message(RECEIVED, RECEIVED, 0, 0, SENDER)


def test_structured_data_is_unescaped_and_repeated_parameters_are_kept() -> None:
    """RFC 5424 escapes three characters in a value, and lets a parameter occur several times."""
    message = read(rb'<13>1 - h a - - [id ip="1" ip="2" q="\"\\\]\n" e=""] text]')
    assert message.data == {"id": {"ip": ["1", "2"], "q": ['"\\]\\n'], "e": [""]}}
    assert message.text == "text]"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"<13>1 2026-02-30T00:00:00Z h a - - - x", "1 2026-02-30T00:00:00Z h a - - - x"),
        (b"<13>1 0001-01-01T00:00:00+23:59 h - - - -", "1 0001-01-01T00:00:00+23:59 h - - - -"),
        (b'<13>1 - h a - - [id k="v] x', '1 - h a - - [id k="v] x'),
        (b"<13>2 - h a - - - x", "2 - h a - - - x"),
    ],
    ids=["no such day", "before time", "unclosed data", "another version"],
)
def test_what_is_nearly_rfc_5424_keeps_its_priority_and_all_its_text(raw: bytes, text: str) -> None:
    """Nothing of a malformed message is lost."""
    message = read(raw)
    assert (message.facility, message.severity, message.text) == (1, 5, text)


# -- RFC 3164 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "host", "app", "procid", "text"),
    [
        (b"<13>Feb 28 10:00:00 vm root: old", "vm", "root", "", "old"),
        (b"<13>Feb 28 10:00:00 vm tag[123]: hi: there", "vm", "tag", "123", "hi: there"),
        (b"<13>Feb 28 10:00:00 vm /usr/sbin/cron[7]: x", "vm", "/usr/sbin/cron", "7", "x"),
        (b"<13>Feb 28 10:00:00 fe80::1 su: x", "fe80::1", "su", "", "x"),
        (b"<13>Feb 28 10:00:00 tag[1]: no host", SENDER, "tag", "1", "no host"),
        (b"<13>tag: no time", SENDER, "tag", "", "no time"),
        (b"<13>only words", SENDER, "", "", "only words"),
        (b"<13>", SENDER, "", "", ""),
    ],
)
def test_each_part_of_rfc_3164_may_be_missing(raw: bytes, host: str, app: str, procid: str, text: str) -> None:
    """The RFC describes what was in use, and demands nothing but the priority."""
    message = read(raw)
    assert (message.host, message.app, message.procid, message.text) == (host, app, procid, text)
    assert (message.facility, message.severity) == (1, 5)


@pytest.mark.parametrize(
    ("received", "said", "meant"),
    [
        ((2026, 3, 1, 12), "Mar  1 11:59:59", (2026, 3, 1, 11, 59, 59)),
        ((2026, 3, 1, 12), "Mar  2 10:00:00", (2026, 3, 2, 10)),
        ((2026, 1, 1, 0), "Dec 31 23:59:59", (2025, 12, 31, 23, 59, 59)),
        ((2025, 12, 31, 23), "Jan  1 00:00:01", (2026, 1, 1, 0, 0, 1)),
        ((2025, 1, 1, 0), "Feb 29 00:00:00", (2024, 2, 29)),
    ],
    ids=["now", "a fast clock", "last year", "a fast clock at new year", "a leap day"],
)
def test_a_time_without_a_year_is_the_latest_that_is_not_in_the_future(
    received: tuple[int, ...], said: str, meant: tuple[int, ...]
) -> None:
    """A day's grace is given to clocks that run fast."""
    now = datetime(*received).timestamp()
    assert parse(f"<13>{said} h a: x".encode(), SENDER, now).time == datetime(*meant).timestamp()


# -- neither -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"b", b"<999>x", b"<192>x", b"<>x", b"<13", b"<13>Feb 31 10:00:00 h a: x", b""])
def test_what_cannot_be_read_is_all_text(raw: bytes) -> None:
    """It is a user.notice of its sender, as RFC 3164 has it."""
    assert read(raw) == Message(RECEIVED, RECEIVED, 1, 5, SENDER, text=raw.decode())


def test_bytes_that_are_no_utf_8_are_shown() -> None:
    """They are kept, readably, and the end of the line is not part of the message."""
    assert read(b"<13>caf\xe9\r\n\0").text == "caf\\xe9"


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"<13>1 " + rest))
def test_parsing_never_fails_and_gives_what_can_be_stored(raw: bytes) -> None:
    """Whatever is sent becomes a message whose text is encodable, since SQLite takes no lone surrogates."""
    message = read(raw)
    message.text.encode()
    assert 0 <= message.severity <= 7
    assert 0 <= message.facility <= 23


@pytest.mark.parametrize("raw", [b"<13>1 - h a - - " + b'[a b="' * 20_000, b"<13>Feb 28 10:00:00 " + b"a" * 60_000])
def test_a_hostile_message_is_read_in_little_time(raw: bytes) -> None:
    """The expressions do not backtrack: 0.5 s is a hundred times what these take."""
    start = time.perf_counter()
    read(raw)
    assert time.perf_counter() - start < 0.5


# -- framing -----------------------------------------------------------------------------------------------------------


def frames(*chunks: bytes, limit: int = 64 * 1024) -> list[bytes]:
    """What a whole stream, received in `chunks`, is cut into."""
    cutter = Frames(limit)
    found = [frame for chunk in chunks for frame in cutter.feed(chunk)]
    return found + cutter.rest()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"<1>a\n<2>b\r\n\n<3>c", [b"<1>a", b"<2>b", b"<3>c"]),
        (b"4 <1>a7 <2>b\nc\n\n4 <3>d", [b"<1>a", b"<2>b\nc\n", b"<3>d"]),
        (b"4 <1>a\n<2>b\n4 <3>c", [b"<1>a", b"<2>b", b"<3>c"]),
        (b"2026 was a year\n12\n12 \n", [b"2026 was a year", b"12", b"12 "]),
        (b"10 <1>cut", [b"<1>cut"]),
        (b"99999999 <1>a\n", [b"99999999 <1>a"]),
        (b"65537 <1>a\n", [b"65537 <1>a"]),
        (b"12", [b"12"]),
        (b"\r", []),
        (b"", []),
    ],
    ids=["lines", "counted", "mixed", "digits", "incomplete", "no count", "too much", "pending", "empty line", "empty"],
)
def test_a_stream_is_cut_by_count_or_at_newlines(stream: bytes, expected: list[bytes]) -> None:
    """RFC 6587's two framings, and what looks like one and is the other."""
    assert frames(stream) == expected


def test_an_endless_line_is_cut_at_the_limit() -> None:
    """No sender can make the collector keep more than the limit; nothing is lost by the cut."""
    assert frames(b"x" * 25 + b"\ny\n", limit=10) == [b"x" * 10, b"x" * 10, b"x" * 5, b"y"]
    assert frames(b"x" * 10 + b"\ny\n", limit=10) == [b"x" * 10, b"y"]


MESSAGES = st.builds(lambda rest: b"<13>" + rest, st.binary(max_size=30))
LINES = MESSAGES.map(lambda line: line.replace(b"\n", b"").rstrip(b"\r"))
FRAMED = LINES.map(lambda line: (line, line + b"\n")) | MESSAGES.map(lambda raw: (raw, b"%d %b" % (len(raw), raw)))


@given(framed=st.lists(FRAMED, max_size=8), data=st.data())
def test_any_division_into_chunks_gives_the_messages_that_were_framed(
    framed: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """Both framings mixed, cut anywhere: each message arrives, unchanged, once, in order."""
    stream = b"".join(wire for _, wire in framed)
    assert frames(*chunked(stream, data)) == [message for message, _ in framed]


@given(
    st.lists(st.sampled_from([b"1", b"12 ", b"<", b"<13>", b"\n", b"\r", b"x", b"xxxxx", b" "]), max_size=30), st.data()
)
def test_chunks_do_not_matter_in_nonsense_either(pieces: list[bytes], data: st.DataObject) -> None:
    """A stream that follows no framing is cut the same way however it arrives, and loses only ends of lines."""
    stream = b"".join(pieces)
    whole = frames(stream, limit=9)
    assert frames(*chunked(stream, data), limit=9) == whole
    assert b"".join(whole).count(b"x") == stream.count(b"x")


def chunked(stream: bytes, data: st.DataObject) -> list[bytes]:
    """The stream, cut at places that hypothesis chooses."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
