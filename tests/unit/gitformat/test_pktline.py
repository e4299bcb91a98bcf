from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.gitformat.pktline import PAYLOAD_BYTES_MAX, Mark, Packet, decode, encode, plain, split_bands

packets = st.lists(st.one_of(st.binary(max_size=200), st.sampled_from(Mark)))


def framed(items: list[Packet]) -> bytes:
    return b"".join(item.value if isinstance(item, Mark) else encode(item) for item in items)


@given(packets)
def test_what_was_framed_is_read_back(items: list[Packet]) -> None:
    data = framed(items)
    read = list(decode(data))
    assert [packet for packet, _ in read] == items
    assert not read or read[-1][1] == len(data)


@given(st.binary(max_size=300))
def test_garbage_raises_a_value_error_or_is_packets(data: bytes) -> None:
    try:
        items = [packet for packet, _ in decode(data)]
    except ValueError:
        return
    assert sum(4 if isinstance(item, Mark) else 4 + len(item) for item in items) == len(data)


@given(packets, st.integers(min_value=1, max_value=400))
def test_data_that_is_cut_within_a_packet_is_noticed(items: list[Packet], cut: int) -> None:
    data = framed(items)
    try:
        read = [packet for packet, _ in decode(data[:-cut])]
    except ValueError:
        return
    assert read == items[: len(read)]


@pytest.mark.parametrize("data", [b"0003", b"000", b"fff1" + b"x" * 65520, b"00 5x", b"+005x", b"0x05x"])
def test_impossible_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pkt-line|length"):
        list(decode(data))


def test_a_payload_above_the_bound_is_not_framed() -> None:
    assert len(encode(b"x" * PAYLOAD_BYTES_MAX)) == 65520
    with pytest.raises(ValueError, match="above 65516"):
        encode(b"x" * (PAYLOAD_BYTES_MAX + 1))


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))))
def test_bands_are_joined_each_for_itself(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(encode(bytes([band]) + part) for band, part in parts) + Mark.FLUSH.value
    bands = split_bands(decode(data))
    assert bands.data == b"".join(part for band, part in parts if band == 1)
    assert bands.messages == plain(b"".join(part for band, part in parts if band == 2))
    assert bands.fatal is None


@pytest.mark.parametrize(
    "data", [b"", encode(b"\x01x"), encode(b"") + b"0000", encode(b"\x04x") + b"0000", b"0001"]
)
def test_streams_that_are_no_bands_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="band"):
        split_bands(decode(data))


@given(st.binary(max_size=3000))
def test_a_servers_words_are_one_short_printable_line(raw: bytes) -> None:
    text = plain(raw, 100)
    assert len(text) <= 100
    assert all(character.isprintable() for character in text)


def test_a_server_that_talks_without_end_is_cut_short() -> None:
    endless = encode(b"\x02" + b"words " * 5000) * 50 + Mark.FLUSH.value
    assert len(split_bands(decode(endless)).messages) <= 2000
