"""The little DER that names and algorithm identifiers need (X.690), bounded and strict."""

from collections.abc import Iterator

SEQUENCE, SET, OID = 0x30, 0x31, 0x06


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and content of each DER element in a row; tags above 30 do not occur here.

    Raises :class:`ValueError` for lengths that are indefinite, not minimal or beyond the end.
    """
    at, end = 0, len(data)
    while at < end:
        if end - at < 2:
            raise ValueError("broken ASN.1: cut short")
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or end - at < count:
                raise ValueError("broken ASN.1: length")
            size = int.from_bytes(data[at : at + count], "big")
            if size < 0x80 or size >> (8 * (count - 1)) == 0:
                raise ValueError("broken ASN.1: length is not minimal")
            at += count
        if size > end - at:
            raise ValueError("broken ASN.1: length beyond the end")
        yield tag, data[at : at + size]
        at += size


def only(data: bytes, tag: int) -> bytes:
    """The content of the single element in ``data``. Raises :class:`ValueError`."""
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"broken ASN.1: one element of type {tag} expected")
    return found[0][1]


def dotted(content: bytes) -> str:
    """An object identifier's content as dotted decimals. Raises :class:`ValueError`."""
    if not content or content[-1] & 0x80 or len(content) > 64:
        raise ValueError("broken ASN.1: object identifier")
    arcs: list[int] = []
    value = 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def element(tag: int, content: bytes) -> bytes:
    """One element: tag, the shortest length, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
