"""How every dataplane starts: all of it, or nothing."""

import contextlib
import errno
from collections.abc import Iterator

from gateway.dataplane.interface import DataplaneUnavailableError


@contextlib.contextmanager
def starting() -> Iterator[contextlib.ExitStack]:
    """Undo what has been entered, unless all of the start succeeds.

    The kernel's errors become :class:`DataplaneUnavailableError`.
    """
    with contextlib.ExitStack() as undo:
        try:
            yield undo
        except OSError as error:
            text = error.strerror or str(error)
            if error.errno == errno.EPERM:
                text += " (needs root or CAP_NET_ADMIN)"
            raise DataplaneUnavailableError(error.errno or errno.EIO, text) from error
        undo.pop_all()
