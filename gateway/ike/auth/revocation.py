"""Whether the certificates of a valid path were revoked, as far as CRLs and OCSP tell.

Nothing here reads files or the network: CRLs and answers are handed in. Only the responder of the
configuration is ever asked; addresses in certificates are not looked at.
"""

import enum
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus

from gateway.ike.auth import ocsp
from gateway.ike.auth.certificates import CertificateRefused, ParsedCertificate
from gateway.ike.auth.crl import Crl, CrlRefused, Revoked
from gateway.ike.auth.ocsp import CertId, OcspAnswer, OcspRefused, OcspRequest

MAX_ANSWERS = 4096
"""OCSP answers, failures and questions under way that are remembered, each."""
ASK_AGAIN = timedelta(hours=1)
"""An answer that is good for longer is renewed after this; if that fails, it is still used."""
RETRY_AFTER = timedelta(seconds=30)
"""So long a responder that did not answer is not asked again about the same certificate."""
QUESTION_LIFETIME = timedelta(seconds=10)
"""So long everybody who asks about the same certificate waits for the same answer."""


_T = TypeVar("_T")


class RevocationMode(enum.Enum):
    """What happens when it is not known whether a certificate was revoked."""

    OFF = "off"
    WHEN_KNOWN = "when known"
    """Revoked certificates are refused; what nobody knows about is accepted."""
    REQUIRED = "required"
    """A fresh CRL or OCSP answer must vouch for every certificate below the trusted one."""


@dataclass(frozen=True, slots=True)
class RevocationPolicy:
    """What the administrator wants. Raises :class:`ValueError` for what cannot work."""

    mode: RevocationMode = RevocationMode.WHEN_KNOWN
    crl_files: tuple[Path, ...] = ()
    ocsp_responder: str | None = None
    """``http://`` or ``https://``, host, port if need be, path."""
    crl_grace_s: float = 0.0
    """A CRL counts as fresh so long after its next update was due."""

    def __post_init__(self) -> None:
        if self.ocsp_responder is not None:
            _check_url(self.ocsp_responder)
        if self.crl_grace_s < 0:
            raise ValueError("the grace of CRLs is negative; give seconds from 0 on")
        has_source = bool(self.crl_files) or self.ocsp_responder is not None
        if self.mode is RevocationMode.REQUIRED and not has_source:
            raise ValueError(
                "revocation is required, but there is no CRL file and no OCSP responder"
            )


def _check_url(url: str) -> None:
    """Refuse what is no plain address of a responder."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'the OCSP responder "{url}" is no URL: {error}') from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if (
        not plain
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or parts.username is not None
        or parts.fragment
    ):
        raise ValueError(
            f"the OCSP responder {url!r} cannot be used; "
            "give http:// or https://, a host, a port if need be and a path"
        )


class RevocationPending(CertificateRefused):
    """A responder must be asked first; whoever does not know this refuses, which is safe.

    First verify that the peer has the private key of ``leaf``; then have ``request`` answered,
    hand the answer to :meth:`TrustAnchors.take_ocsp_response` and validate anew. That may raise
    this again for the next certificate of the path, so bound the rounds by the path's length.
    """

    def __init__(self, request: OcspRequest, leaf: x509.Certificate) -> None:
        super().__init__(
            f"the OCSP responder {request.url} must be asked about "
            f"certificate {_serial(request.certificate)} of {request.certificate.title}"
        )
        self.request = request
        self.leaf = leaf


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer in the cache."""

    answer: OcspAnswer
    ask_again_at: datetime


def _serial(certificate: ParsedCertificate) -> str:
    number = certificate.certificate.serial_number
    octets = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    return (octets.removeprefix(b"\0") or octets).hex(":")


def _refusal(certificate: ParsedCertificate, revoked: Revoked, source: str) -> CertificateRefused:
    return CertificateRefused(
        f"certificate {_serial(certificate)} of {certificate.title} {revoked}, says {source}"
    )


class Revocation:
    """The CRLs in force and the OCSP answers that are still good, for one policy."""

    def __init__(
        self, policy: RevocationPolicy, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.policy = policy
        self._random = random
        self._by_source: dict[str, tuple[Crl, ...]] = {}
        self._by_issuer: dict[bytes, tuple[Crl, ...]] = {}
        self._kept: OrderedDict[CertId, _Kept] = OrderedDict()
        self._failed: OrderedDict[CertId, tuple[str, datetime]] = OrderedDict()
        self._asked: OrderedDict[CertId, tuple[OcspRequest, datetime]] = OrderedDict()

    @property
    def crls(self) -> tuple[Crl, ...]:
        """The CRLs in force."""
        return tuple(crl for crls in self._by_source.values() for crl in crls)

    def check_crls(self, crls: Iterable[Crl], anchors: Sequence[ParsedCertificate]) -> None:
        """Whether the new content of a file may replace its former.

        A list that bears the name of a trusted authority must be signed by it, and must not be
        older than the one in force. Raises :class:`CrlRefused`.
        """
        for crl in crls:
            named = [anchor for anchor in anchors if anchor.subject == crl.issuer]
            problems = [crl.problem_with(anchor) for anchor in named]
            if problems and all(problems):
                raise CrlRefused(f"CRL {crl.source} {problems[0]}")
            for former in self._by_source.get(crl.source, ()):
                if former.issuer == crl.issuer and former.number is not None:
                    _check_order(crl, former)

    def take_crls(
        self, source: str, crls: tuple[Crl, ...], anchors: Sequence[ParsedCertificate]
    ) -> None:
        """Put the lists of a file in force, instead of those that the file had before.

        Raises :class:`CrlRefused`; then those before stay in force.
        """
        self.check_crls(crls, anchors)
        self._by_source[source] = crls
        by_issuer: dict[bytes, tuple[Crl, ...]] = {}
        for crl in self.crls:
            by_issuer[crl.issuer] = (*by_issuer.get(crl.issuer, ()), crl)
        self._by_issuer = by_issuer

    def check(self, path: Sequence[ParsedCertificate], now: datetime) -> None:
        """Judge a valid path: leaf first, then its authorities, the trusted one last.

        The trusted certificate itself is not judged. Raises :class:`CertificateRefused` for a
        revoked certificate, and :class:`RevocationPending` if a responder must be asked.
        """
        if self.policy.mode is RevocationMode.OFF:
            return
        links = list(pairwise(path))
        # All the lists before any question: what they refuse needs no network.
        by_list = [self._by_list(certificate, issuer, now) for certificate, issuer in links]
        for (certificate, issuer), doubt in zip(links, by_list, strict=True):
            if self.policy.ocsp_responder is not None:
                by_answer = self._by_answer(certificate, issuer, path[0], now)
                if by_answer is None:
                    continue
                doubt = doubt and f"{by_answer}; {doubt}"  # noqa: PLW2901 - one sentence
            if doubt is not None and self.policy.mode is RevocationMode.REQUIRED:
                raise CertificateRefused(
                    f"it is not known whether certificate {_serial(certificate)} of "
                    f"{certificate.title} was revoked: {doubt}"
                )

    def _by_list(
        self, certificate: ParsedCertificate, issuer: ParsedCertificate, now: datetime
    ) -> str | None:
        """None if a fresh list vouches for the certificate, else why none does.

        Raises :class:`CertificateRefused` if one lists it: an old list too, for being revoked is
        for good.
        """
        doubts: list[str] = []
        grace = timedelta(seconds=self.policy.crl_grace_s)
        vouched = False
        for crl in self._by_issuer.get(issuer.subject, ()):
            problem = crl.problem_with(issuer)
            if problem is None:
                revoked = crl.find(certificate.certificate.serial_number)
                if revoked is not None:
                    raise _refusal(certificate, revoked, f"CRL {crl.source}")
                problem = crl.stale(now, grace)
            if problem is None and not crl.covers(certificate):
                problem = "is about other certificates"
            if problem is None:
                vouched = True
            else:
                doubts.append(f"CRL {crl.source} {problem}")
        if vouched:
            return None
        return "; ".join(doubts) or f"there is no CRL of {issuer.title}"

    def _by_answer(
        self,
        certificate: ParsedCertificate,
        issuer: ParsedCertificate,
        leaf: ParsedCertificate,
        now: datetime,
    ) -> str | None:
        """None if an answer vouches for the certificate, else why none does."""
        name = ocsp.cert_id(certificate, issuer)
        kept = self._kept.get(name)
        if kept is not None and kept.answer.good_until < now:
            del self._kept[name]
            kept = None
        why, retry_at = self._failed.get(name, ("", now))
        if now >= retry_at and (kept is None or kept.ask_again_at <= now):
            question = self._question(name, certificate, issuer, now)
            raise RevocationPending(question, leaf.certificate)
        if kept is None:
            return why
        self._kept.move_to_end(name)
        answer = kept.answer
        responder = f"OCSP responder {self.policy.ocsp_responder}"
        if answer.revoked is not None:
            raise _refusal(certificate, answer.revoked, responder)
        if answer.status is OCSPCertStatus.GOOD:
            return None
        return f"{responder} does not know it"

    def _question(
        self,
        name: CertId,
        certificate: ParsedCertificate,
        issuer: ParsedCertificate,
        now: datetime,
    ) -> OcspRequest:
        asked = self._asked.get(name)
        if asked is not None and now < asked[1]:
            return asked[0]
        url = self.policy.ocsp_responder or ""
        request = ocsp.build(url, certificate, issuer, self._random)
        _remember(self._asked, name, (request, now + QUESTION_LIFETIME))
        return request

    def take_response(self, request: OcspRequest, der: bytes | None, now: datetime) -> str | None:
        """Take the responder's answer, None if it gave none; returns why it does not count.

        May be called several times for a request that several waited for.
        """
        name = request.cert_id
        self._asked.pop(name, None)
        try:
            if der is None:
                raise OcspRefused("did not come")
            answer = ocsp.judge(request, der, now, lambda one: self._listed(one, request.issuer))
        except OcspRefused as refused:
            why = f"the answer of OCSP responder {request.url} {refused}"
            _remember(self._failed, name, (why, now + RETRY_AFTER))
            return why
        former = self._kept.get(name)
        if former is not None and former.answer.this_update > answer.this_update:
            answer = former.answer  # an older one, sent again by somebody, changes nothing
        self._failed.pop(name, None)
        _remember(self._kept, name, _Kept(answer, min(answer.good_until, now + ASK_AGAIN)))
        return None

    def _listed(self, certificate: ParsedCertificate, issuer: ParsedCertificate) -> Revoked | None:
        for crl in self._by_issuer.get(issuer.subject, ()):
            if crl.problem_with(issuer) is None:
                revoked = crl.find(certificate.certificate.serial_number)
                if revoked is not None:
                    return revoked
        return None


def _check_order(crl: Crl, former: Crl) -> None:
    if former.number is None or crl.number is None or crl.number >= former.number:
        return
    raise CrlRefused(
        f"CRL {crl.source} is older than the one in force: "
        f"its number is {crl.number}, that of the other {former.number}"
    )


def _remember(cache: OrderedDict[CertId, _T], name: CertId, value: _T) -> None:
    cache[name] = value
    cache.move_to_end(name)
    if len(cache) > MAX_ANSWERS:
        cache.popitem(last=False)
