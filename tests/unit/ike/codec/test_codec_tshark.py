"""tshark as the judge of what we write and read."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from codec_samples import (
    SAMPLES,
    SPI_I,
    SPI_R,
    message_of,
    recorded,
    recorded_payloads,
)

from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    UnknownSelector,
    describe_payloads,
    encrypted_prefix,
    find,
    parse_header,
    parse_message,
)

tshark = pytest.mark.skipif(
    not (shutil.which("tshark") and shutil.which("text2pcap")), reason="needs tshark and text2pcap"
)


def judge(tmp_path: Path, messages: list[bytes], fields: list[str]) -> list[dict[str, list[str]]]:
    """Hand messages to tshark, with the keys of the recorded sessions; return fields of each."""
    dump, capture = tmp_path / "dump.txt", tmp_path / "capture.pcap"
    lines = (
        f"{at:06x} {message[at : at + 16].hex(' ')}"
        for message in messages
        for at in range(0, len(message), 16)
    )
    dump.write_text("\n".join(lines) + "\n")
    subprocess.run(["text2pcap", "-q", "-u", "500,500", dump, capture], check=True, timeout=60)
    command = ["tshark", "-n", "-r", str(capture), "-T", "fields", "-E", "separator=|"]
    for sa in {entry.sa["initiator_spi"]: entry.sa for entry in recorded() if entry.sa}.values():
        command += ["-o", "uat:ikev2_decryption_table:" + decryption_row(sa)]
    for field in fields:
        command += ["-e", field]
    # A home of its own: no preferences of the user, no caches written.
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path), "LC_ALL": "C"}
    result = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment
    )
    rows = result.stdout.splitlines()
    assert len(rows) == len(messages)
    return [
        {
            field: value.split(",") if value else []
            for field, value in zip(fields, row.split("|"), strict=True)
        }
        for row in rows
    ]


def decryption_row(sa: dict[str, str]) -> str:
    encryption, integrity = {
        "aes256gcm16-prfsha256-x25519": (
            "AES-GCM-256 with 16 octet ICV [RFC5282]",
            "NONE [RFC4306]",
        ),
        "aes256-sha256-ecp256": ("AES-CBC-256 [RFC3602]", "HMAC_SHA2_256_128 [RFC4868]"),
    }[sa["suite"]]
    keys = [sa.get(name, "") for name in ("sk_ai", "sk_ar")]
    spis = [sa[name] for name in ("initiator_spi", "responder_spi", "sk_ei", "sk_er")]
    return ",".join([*spis, f'"{encryption}"', *keys, f'"{integrity}"'])


def expected_fields(payloads: tuple[Payload, ...]) -> dict[str, list[str]]:
    """What tshark should say of payloads, from our dataclasses."""
    out: dict[str, list[str]] = {field: [] for field in PAYLOAD_FIELDS}

    def add(field: str, value: object) -> None:
        out[f"isakmp.{field}"].append(value.hex() if isinstance(value, bytes) else str(value))

    for payload in payloads:
        add("typepayload", payload.payload_type)
        match payload:
            case SecurityAssociation():
                for proposal in payload.proposals:
                    add("typepayload", 2)
                    add_proposal(add, proposal)
            case KeyExchange():
                add("key_exchange.dh_group", payload.group)
                add("key_exchange.data", payload.data)
            case Nonce():
                add("nonce", payload.data)
            case IdInitiator() | IdResponder():
                add("id.type", payload.id_type)
            case Certificate():
                add("cert.encoding", payload.encoding)
            case CertificateRequest():
                add("certreq.type", payload.encoding)
            case Authentication():
                add("auth.method", payload.method)
            case Notify():
                add("notify.protoid", payload.protocol)
                add("spisize", len(payload.spi))
                add("notify.msgtype", payload.type)
                if payload.spi:
                    add("spi", payload.spi)
            case Delete():
                add("delete.protoid", payload.protocol)
                add("spisize", 4 if payload.protocol == 3 else 0)
                for spi in payload.spis:
                    add("delete.spi", spi)
            case TrafficSelectorsInitiator() | TrafficSelectorsResponder():
                add("ts.number", len(payload.selectors))
                add_selectors(add, payload.selectors)
            case Configuration():
                add("cfg.type", payload.type)
                for attribute in payload.attributes:
                    add("cfg.attr.type", attribute.type)
                    add("cfg.attr.length", len(attribute.value))
    return out


PAYLOAD_FIELDS = [
    "isakmp.typepayload",
    "isakmp.prop.number",
    "isakmp.prop.protoid",
    "isakmp.prop.transforms",
    "isakmp.spisize",
    "isakmp.spi",
    "isakmp.tf.type",
    "isakmp.tf.id.encr",
    "isakmp.tf.id.prf",
    "isakmp.tf.id.integ",
    "isakmp.tf.id.dh",
    "isakmp.tf.id.esn",
    "isakmp.ike2.attr.key_length",
    "isakmp.key_exchange.dh_group",
    "isakmp.key_exchange.data",
    "isakmp.nonce",
    "isakmp.id.type",
    "isakmp.cert.encoding",
    "isakmp.certreq.type",
    "isakmp.auth.method",
    "isakmp.notify.protoid",
    "isakmp.notify.msgtype",
    "isakmp.delete.protoid",
    "isakmp.delete.spi",
    "isakmp.ts.number",
    "isakmp.ts.type",
    "isakmp.ts.protoid",
    "isakmp.ts.start_port",
    "isakmp.ts.end_port",
    "isakmp.ts.start_ipv4",
    "isakmp.ts.end_ipv4",
    "isakmp.ts.start_ipv6",
    "isakmp.ts.end_ipv6",
    "isakmp.cfg.type",
    "isakmp.cfg.attr.type",
    "isakmp.cfg.attr.length",
]
HEADER_FIELDS = [
    "isakmp.ispi",
    "isakmp.rspi",
    "isakmp.exchangetype",
    "isakmp.flags",
    "isakmp.messageid",
    "isakmp.length",
    "isakmp.version",
]
VERDICT = ["_ws.malformed", "_ws.expert.message"]
TRANSFORM_FIELDS = {1: "encr", 2: "prf", 3: "integ", 4: "dh", 5: "esn"}


def add_proposal(add: Callable[[str, object], None], proposal: Proposal) -> None:
    add("prop.number", proposal.number)
    add("prop.protoid", proposal.protocol)
    add("spisize", len(proposal.spi))
    add("prop.transforms", len(proposal.transforms))
    if proposal.spi:
        add("spi", proposal.spi)
    for transform in proposal.transforms:
        add("typepayload", 3)
        add("tf.type", transform.type)
        add(f"tf.id.{TRANSFORM_FIELDS[transform.type]}", transform.id)
        if transform.key_bits is not None:
            add("ike2.attr.key_length", transform.key_bits)


def add_selectors(
    add: Callable[[str, object], None], selectors: tuple[TrafficSelector | UnknownSelector, ...]
) -> None:
    for selector in selectors:
        assert isinstance(selector, TrafficSelector)
        version = selector.start.version
        add("ts.type", 7 if version == 4 else 8)
        add("ts.protoid", selector.protocol)
        add("ts.start_port", selector.start_port)
        add("ts.end_port", selector.end_port)
        add(f"ts.start_ipv{version}", selector.start)
        add(f"ts.end_ipv{version}", selector.end)


def expected_header(data: bytes) -> dict[str, list[str]]:
    header = parse_header(data)
    values = (
        header.initiator_spi.hex(),
        header.responder_spi.hex(),
        str(header.exchange),
        f"0x{header.flags:02x}",
        f"0x{header.message_id:08x}",
        str(header.length),
        f"0x{header.major:x}{header.minor:x}",
    )
    return {field: [value] for field, value in zip(HEADER_FIELDS, values, strict=True)}


@tshark
def test_tshark_reads_the_recorded_messages_as_we_do(tmp_path: Path) -> None:
    rows = judge(
        tmp_path, [entry.message for entry in recorded()], HEADER_FIELDS + PAYLOAD_FIELDS + VERDICT
    )
    plain = iter(recorded_payloads())
    for entry, row in zip(recorded(), rows, strict=True):
        message = parse_message(entry.message)
        expected = expected_header(entry.message)
        if message.encrypted is None:
            expected |= expected_fields(message.payloads)
        else:
            kind = "46" if message.encrypted.fragment is None else "53"
            number, total = message.encrypted.fragment or (1, 1)
            # tshark tells the content of fragments with the last one.
            inner = expected_fields(next(plain) if number == total else ())
            inner["isakmp.typepayload"].insert(0, kind)
            expected |= inner
        assert {field: row[field] for field in expected} == expected
        assert row["_ws.malformed"] == []
    assert next(plain, None) is None


def readable(sample: Payload) -> Payload:
    """The sample, without what tshark looks deeper into than the codec does."""
    if isinstance(sample, Certificate):
        return next(c for c in map(find_certificate, recorded_payloads()) if c)
    if isinstance(sample, TrafficSelectorsInitiator):
        known = [one for one in sample.selectors if isinstance(one, TrafficSelector)]
        return TrafficSelectorsInitiator(tuple(known))
    return sample


def find_certificate(payloads: tuple[Payload, ...]) -> Certificate | None:
    return find(payloads, Certificate)


@tshark
def test_tshark_reads_what_we_write(tmp_path: Path) -> None:
    payloads = tuple(map(readable, SAMPLES))
    messages = [message_of(*payloads)] + [message_of(payload) for payload in payloads]
    rows = judge(tmp_path, messages, HEADER_FIELDS + PAYLOAD_FIELDS + VERDICT)
    for octets, row in zip(messages, rows, strict=True):
        written = parse_message(octets).payloads
        expected = expected_header(octets) | expected_fields(written)
        assert {field: row[field] for field in expected} == expected
        assert row["_ws.malformed"] == [], describe_payloads(written)


@tshark
def test_tshark_reads_our_encrypted_headers(tmp_path: Path) -> None:
    sealed = bytes(range(40))
    messages = [
        encrypted_prefix(
            SPI_I,
            SPI_R,
            exchange=35,
            flags=0x20,
            message_id=2,
            first_payload=36,
            sealed_octets=len(sealed),
            fragment=fragment,
        )
        + sealed
        for fragment in (None, (1, 3), (2, 3))
    ]
    fields = ["isakmp.typepayload", "isakmp.nextpayload", "isakmp.frag.number", "isakmp.frag.total"]
    rows = judge(tmp_path, messages, [*HEADER_FIELDS, *fields, *VERDICT])
    inner = [["46", "36"], ["53", "36"], ["53", "0"]]
    numbers = [([], []), (["1"], ["3"]), (["2"], ["3"])]
    for octets, row, chain, (number, total) in zip(messages, rows, inner, numbers, strict=True):
        expected = expected_header(octets)
        assert {field: row[field] for field in expected} == expected
        assert row["isakmp.nextpayload"] == chain
        assert row["isakmp.typepayload"] == chain[:1]
        assert (row["isakmp.frag.number"], row["isakmp.frag.total"]) == (number, total)
        assert row["_ws.malformed"] == []


@tshark
def test_tshark_can_tell_a_malformed_message(tmp_path: Path) -> None:
    """Or the tests above would prove nothing."""
    whole = recorded()[0].message
    lying = whole[:30] + b"\xff\xff" + whole[32:]
    (row,) = judge(tmp_path, [lying], VERDICT)
    assert row["_ws.malformed"] or any(re.search("(?i)malformed", m) for m in row[VERDICT[1]])
