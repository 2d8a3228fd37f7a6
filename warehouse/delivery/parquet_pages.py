"""Page headers of a Parquet file: what its pages take once they are unpacked, known before anything is unpacked.

The footer only claims a size. A reader allocates what the header of each page says, so the headers are read first: Thrift's
compact protocol (parquet-format, PageHeader). pyarrow does not show them.
"""

from __future__ import annotations

import pyarrow.parquet as pq

DATA_PAGES = (0, 3)  # PageType: DATA_PAGE and DATA_PAGE_V2; bundles have neither dictionaries nor indexes
# Types of the compact protocol.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
WIDTHS = {TRUE: 0, FALSE: 0, BYTE: 1, DOUBLE: 8}
DEEPEST = 4  # structs in a header are two deep: the page's, and its statistics


def unpacked_bytes(content: bytes, claims: pq.ColumnChunkMetaData) -> int:
    """Return the bytes that the pages of a column chunk take when they are unpacked, headers included.

    Raises:
        ValueError: they are no whole data pages, or leave the file.
    """
    at, end = claims.data_page_offset, claims.data_page_offset + claims.total_compressed_size
    if claims.has_dictionary_page or not 0 <= at <= end <= len(content):
        raise ValueError("a column has a dictionary, or lies outside the file")
    total = 0
    try:
        while at < end:
            start = at
            at, fields = _struct(content, at, 0)
            if fields.get(1) not in DATA_PAGES or min(fields[2], fields[3]) < 0:
                raise ValueError("a page holds no data")
            total += at - start + fields[2]
            at += fields[3]
    except (IndexError, KeyError) as error:
        raise ValueError("a page has no whole header") from error
    if at != end:
        raise ValueError("the last page is longer than its column")
    return total


def _struct(content: bytes, at: int, depth: int) -> tuple[int, dict[int, int]]:
    """Return where a struct ends, and those of its fields that are whole numbers, by id."""
    if depth > DEEPEST:
        raise ValueError("a page's header is too deep")
    found, field = dict[int, int](), 0
    while kind := content[at]:
        at += 1
        if kind >> 4:
            field += kind >> 4
        else:
            field, at = _number(content, at)
        kind &= 15
        if kind in (I16, I32, I64):
            found[field], at = _number(content, at)
        elif kind in WIDTHS:
            at += WIDTHS[kind]
        elif kind == BINARY:
            length, at = _varint(content, at)
            at += length
        elif kind == STRUCT:
            at, _ = _struct(content, at, depth + 1)
        else:
            raise ValueError("a page's header has an unknown field")
    return at + 1, found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[at]) > 127:
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise ValueError("a page's header has too long a number")
    return value | byte << shift, at + 1


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return a signed number, which is stored as 0, -1, 1, -2 ..., and where it ends."""
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at
