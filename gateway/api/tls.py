"""The API's TLS.

Its certificate is made at first start, renewed before it ends, and loaded again when its files
change.
"""

import contextlib
import logging
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("gateway.api")

RENEW_DAYS = 30
MAKE_TIMEOUT_S = 60


class TlsError(Exception):
    """TLS cannot be set up. Its text names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where certificate (leaf first) and key are."""

    certificate: Path
    key: Path


def own_files(folder: Path, names: tuple[str, ...]) -> CertificateFiles:
    """The certificate of our own in ``folder``, made now when there is none for these names.

    Raises :class:`TlsError`.
    """
    files = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
    wanted = folder / "names"
    with contextlib.suppress(OSError, TlsError):
        same = wanted.read_text("utf-8").split() == list(names)
        if same and ends_in_days(files.certificate) > RENEW_DAYS:
            context_of(files)
            return files
    command = [sys.executable, "-P", "-m", "gateway.api.make_certificate", str(folder), *names]
    try:
        subprocess.run(command, check=True, timeout=MAKE_TIMEOUT_S, capture_output=True)
        wanted.unlink(missing_ok=True)  # it may be of another user before us
        wanted.write_text("\n".join(names) + "\n", "utf-8")
    except (OSError, subprocess.SubprocessError) as error:
        raise TlsError(
            f"no certificate can be made in {folder} ({error}): the API's user must be able to"
            " write there, or give [api] certificate and private_key"
        ) from error
    return files


def context_of(files: CertificateFiles) -> ssl.SSLContext:
    """TLS 1.2 and newer with this certificate. Raises :class:`TlsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    load(context, files)
    return context


def load(context: ssl.SSLContext, files: CertificateFiles) -> None:
    """Put the files' certificate into a context that serves; raises :class:`TlsError`."""
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsError(
            f"certificate {files.certificate} with key {files.key} cannot be used ({error}): both"
            " must be PEM, belong together, and be readable by the API's user"
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a passphrase; remove it")


def ends_in_days(certificate: Path) -> float:
    """Until a certificate ends. Raises :class:`TlsError`."""
    try:
        found = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined] # noqa: SLF001
        ends = ssl.cert_time_to_seconds(str(found["notAfter"]))
    except (OSError, ssl.SSLError, ValueError, KeyError) as error:
        raise TlsError(f"{certificate}: {error}") from error
    return (ends - time.time()) / 86_400


class Reloading:
    """Loads the certificate again when its files have changed."""

    def __init__(self, context: ssl.SSLContext, files: CertificateFiles) -> None:
        self._context = context
        self._files = files
        self._seen = self._stamp()
        self._bad: object = None

    def look(self) -> bool:
        """Look once; whether something new is in force. What is no good is left alone."""
        stamp = self._stamp()
        if stamp is None or stamp in {self._seen, self._bad}:
            return False
        try:
            # In a context of its own first: certificate and key are replaced one after the other.
            context_of(self._files)
            load(self._context, self._files)
        except TlsError as error:
            self._bad = stamp
            _log.warning("API: the new certificate is not used: %s", error)
            return False
        self._seen = stamp
        _log.warning("API: a new certificate is in use")
        return True

    def _stamp(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            found = [self._files.certificate.stat(), self._files.key.stat()]
        except OSError:
            return None
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)
