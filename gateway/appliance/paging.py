"""Lists in pages, in the order of their keys."""

import heapq

from gateway.control.protocol import Request


def page(keys: list[str], request: Request) -> tuple[list[str], str | None]:
    """The keys after the request's cursor, in order, and the next cursor."""
    cursor, limit = request.text("cursor"), request.number("limit")
    after = keys if cursor is None else [key for key in keys if key > cursor]
    shown = heapq.nsmallest(limit + 1, after)
    if len(shown) > limit:
        return shown[:limit], shown[limit - 1]
    return shown, None
