"""NETLINK_XFRM declared on pyroute2's classes, field by field as ``linux/xfrm.h`` has them.

The reference that :mod:`~gateway.dataplane.kernel.xfrm.encode` and
:mod:`~gateway.dataplane.kernel.xfrm.decode` are held to by tests, and what diagnostics use. The
running gateway does not import this module: pyroute2 costs 12 MB and encodes a state in about
a hundred times what ``encode`` takes.
"""

# pyroute2 has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

import struct
from typing import Any

from pyroute2.netlink import nla, nlmsg

from gateway.dataplane.kernel.xfrm.constants import SpdAttribute, XfrmAttribute, XfrmMessage

Fields = tuple[tuple[str, str], ...]


def _prefixed(prefix: str, fields: Fields) -> Fields:
    return tuple((prefix + name, layout) for name, layout in fields)


SELECTOR: Fields = (
    ("daddr", "16s"),
    ("saddr", "16s"),
    ("dport", ">H"),
    ("dport_mask", ">H"),
    ("sport", ">H"),
    ("sport_mask", ">H"),
    ("family", "H"),
    ("prefixlen_d", "B"),
    ("prefixlen_s", "B"),
    ("proto", "B"),
    ("pad", "3s"),
    ("ifindex", "i"),
    ("user", "I"),
)
ID: Fields = (("daddr", "16s"), ("spi", ">I"), ("proto", "B"), ("pad", "3s"))
LIFETIME_LIMITS: Fields = (
    ("soft_byte_limit", "Q"),
    ("hard_byte_limit", "Q"),
    ("soft_packet_limit", "Q"),
    ("hard_packet_limit", "Q"),
    ("soft_add_expires_seconds", "Q"),
    ("hard_add_expires_seconds", "Q"),
    ("soft_use_expires_seconds", "Q"),
    ("hard_use_expires_seconds", "Q"),
)
LIFETIME_CURRENT: Fields = (("bytes", "Q"), ("packets", "Q"), ("add_time", "Q"), ("use_time", "Q"))
STATISTICS: Fields = (("replay_window", "I"), ("replay", "I"), ("integrity_failed", "I"))
STATE: Fields = (
    *_prefixed("sel_", SELECTOR),
    *_prefixed("id_", ID),
    ("saddr", "16s"),
    *_prefixed("lft_", LIFETIME_LIMITS),
    *_prefixed("curlft_", LIFETIME_CURRENT),
    *_prefixed("stats_", STATISTICS),
    ("seq", "I"),
    ("reqid", "I"),
    ("family", "H"),
    ("mode", "B"),
    ("replay_window", "B"),
    ("flags", "B"),
    ("pad", "7s"),
)
STATE_ID: Fields = (
    ("daddr", "16s"),
    ("spi", ">I"),
    ("family", "H"),
    ("proto", "B"),
    ("pad", "1s"),
)
POLICY: Fields = (
    *_prefixed("sel_", SELECTOR),
    *_prefixed("lft_", LIFETIME_LIMITS),
    *_prefixed("curlft_", LIFETIME_CURRENT),
    ("priority", "I"),
    ("index", "I"),
    ("dir", "B"),
    ("action", "B"),
    ("flags", "B"),
    ("share", "B"),
    ("pad", "4s"),
)
POLICY_ID: Fields = (
    *_prefixed("sel_", SELECTOR),
    ("index", "I"),
    ("dir", "B"),
    ("pad", "3s"),
)


class with_tail(nla):  # noqa: N801
    """A structure that octets of any length follow, kept under the name ``tail``."""

    tail = ""

    def ft_decode(self, offset: int) -> None:
        """Decode the fields, then take what is left of the attribute."""
        super().ft_decode(offset)
        offset += struct.calcsize("=" + "".join(layout for _, layout in self.fields))
        self[self.tail] = bytes(self.data[offset : self.offset + self.length])

    def ft_encode(self, offset: int) -> tuple[int, int]:
        """Encode the fields, which end on a whole word, then the tail and its padding."""
        offset, _ = super().ft_encode(offset)
        octets = self[self.tail]
        padding = -len(octets) & 3
        self.data.extend(octets + bytes(padding))
        return offset + len(octets) + padding, padding


class Attributes:
    """The attributes that all messages share; mixed into each message class."""

    prefix = "XFRMA_"
    nla_map = tuple(
        (int(kind), f"XFRMA_{kind.name}", layout)
        for kind, layout in (
            (XfrmAttribute.ALG_AUTH, "algo"),
            (XfrmAttribute.ALG_CRYPT, "algo"),
            (XfrmAttribute.ALG_COMP, "algo"),
            (XfrmAttribute.ENCAP, "encap_tmpl"),
            (XfrmAttribute.TMPL, "cdata"),
            (XfrmAttribute.SA, "cdata"),
            (XfrmAttribute.POLICY, "cdata"),
            (XfrmAttribute.SEC_CTX, "cdata"),
            (XfrmAttribute.LTIME_VAL, "lifetime_cur"),
            (XfrmAttribute.REPLAY_VAL, "replay_state"),
            (XfrmAttribute.REPLAY_THRESH, "uint32"),
            (XfrmAttribute.ETIMER_THRESH, "uint32"),
            (XfrmAttribute.SRCADDR, "cdata"),
            (XfrmAttribute.COADDR, "cdata"),
            (XfrmAttribute.LASTUSED, "uint64"),
            (XfrmAttribute.POLICY_TYPE, "cdata"),
            (XfrmAttribute.MIGRATE, "user_migrate"),
            (XfrmAttribute.ALG_AEAD, "algo_icv"),
            (XfrmAttribute.KMADDRESS, "cdata"),
            (XfrmAttribute.ALG_AUTH_TRUNC, "algo_icv"),
            (XfrmAttribute.MARK, "mark"),
            (XfrmAttribute.TFCPAD, "uint32"),
            (XfrmAttribute.REPLAY_ESN_VAL, "replay_state_esn"),
            (XfrmAttribute.SA_EXTRA_FLAGS, "uint32"),
            (XfrmAttribute.PROTO, "uint8"),
            (XfrmAttribute.ADDRESS_FILTER, "cdata"),
            (XfrmAttribute.PAD, "cdata"),
            (XfrmAttribute.OFFLOAD_DEV, "cdata"),
            (XfrmAttribute.SET_MARK, "uint32"),
            (XfrmAttribute.SET_MARK_MASK, "uint32"),
            (XfrmAttribute.IF_ID, "uint32"),
            (XfrmAttribute.MTIMER_THRESH, "uint32"),
        )
    )

    class algo(with_tail):  # noqa: N801 - pyroute2 finds the layout by this name
        """``xfrm_algo``: the key follows."""

        fields = (("alg_name", "64s"), ("alg_key_len", "I"))
        tail = "alg_key"

    class algo_icv(with_tail):  # noqa: N801
        """``xfrm_algo_aead`` and ``xfrm_algo_auth``: the key follows."""

        fields = (("alg_name", "64s"), ("alg_key_len", "I"), ("alg_icv_len", "I"))
        tail = "alg_key"

    class encap_tmpl(nla):  # noqa: N801
        """``xfrm_encap_tmpl``."""

        fields = (
            ("encap_type", "H"),
            ("encap_sport", ">H"),
            ("encap_dport", ">H"),
            ("pad", "2s"),
            ("encap_oa", "16s"),
        )

    class user_tmpl(nla):  # noqa: N801
        """``xfrm_user_tmpl``; XFRMA_TMPL holds one or more of them without headers."""

        fields = (
            *_prefixed("id_", ID),
            ("family", "H"),
            ("pad", "2s"),
            ("saddr", "16s"),
            ("reqid", "I"),
            ("mode", "B"),
            ("share", "B"),
            ("optional", "B"),
            ("pad2", "1s"),
            ("aalgos", "I"),
            ("ealgos", "I"),
            ("calgos", "I"),
        )

    class lifetime_cur(nla):  # noqa: N801
        """``xfrm_lifetime_cur``."""

        fields = LIFETIME_CURRENT

    class replay_state(nla):  # noqa: N801
        """``xfrm_replay_state``."""

        fields = (("oseq", "I"), ("seq", "I"), ("bitmap", "I"))

    class replay_state_esn(with_tail):  # noqa: N801
        """``xfrm_replay_state_esn``: the bitmap follows."""

        fields = (
            ("bmp_len", "I"),
            ("oseq", "I"),
            ("seq", "I"),
            ("oseq_hi", "I"),
            ("seq_hi", "I"),
            ("replay_window", "I"),
        )
        tail = "bmp"

    class mark(nla):  # noqa: N801
        """``xfrm_mark``."""

        fields = (("v", "I"), ("m", "I"))

    class user_migrate(nla):  # noqa: N801
        """``xfrm_user_migrate``."""

        fields = (
            ("old_daddr", "16s"),
            ("old_saddr", "16s"),
            ("new_daddr", "16s"),
            ("new_saddr", "16s"),
            ("proto", "B"),
            ("mode", "B"),
            ("reserved", "H"),
            ("reqid", "I"),
            ("old_family", "H"),
            ("new_family", "H"),
        )


class StateMessage(Attributes, nlmsg):
    """NEWSA, UPDSA: ``xfrm_usersa_info``."""

    fields = STATE


class StateIdMessage(Attributes, nlmsg):
    """DELSA, GETSA: ``xfrm_usersa_id``."""

    fields = STATE_ID


class PolicyMessage(Attributes, nlmsg):
    """NEWPOLICY, UPDPOLICY: ``xfrm_userpolicy_info``."""

    fields = POLICY


class PolicyIdMessage(Attributes, nlmsg):
    """DELPOLICY, GETPOLICY, and with XFRMA_MIGRATE the request MIGRATE."""

    fields = POLICY_ID


class AcquireMessage(Attributes, nlmsg):
    """ACQUIRE: ``xfrm_user_acquire``."""

    fields = (
        *_prefixed("id_", ID),
        ("saddr", "16s"),
        *_prefixed("sel_", SELECTOR),
        *_prefixed("policy_", POLICY),
        ("aalgos", "I"),
        ("ealgos", "I"),
        ("calgos", "I"),
        ("seq", "I"),
    )


class ExpireMessage(Attributes, nlmsg):
    """EXPIRE: ``xfrm_user_expire``."""

    fields = (*_prefixed("state_", STATE), ("hard", "B"), ("pad", "7s"))


class MappingMessage(Attributes, nlmsg):
    """MAPPING: ``xfrm_user_mapping``."""

    fields = (
        *_prefixed("id_", STATE_ID),
        ("reqid", "I"),
        ("old_saddr", "16s"),
        ("new_saddr", "16s"),
        ("old_sport", ">H"),
        ("new_sport", ">H"),
    )


class AsyncEventMessage(Attributes, nlmsg):
    """NEWAE, GETAE: ``xfrm_aevent_id``."""

    fields = (*_prefixed("sa_id_", STATE_ID), ("saddr", "16s"), ("flags", "I"), ("reqid", "I"))


class FlushMessage(Attributes, nlmsg):
    """FLUSHSA: ``xfrm_usersa_flush``."""

    fields = (("proto", "B"),)


class SpdInfoMessage(nlmsg):
    """NEWSPDINFO, GETSPDINFO: counts and hash thresholds of the policy database."""

    prefix = "XFRMA_SPD_"
    fields = (("flags", "I"),)
    nla_map = (
        (int(SpdAttribute.INFO), "XFRMA_SPD_INFO", "spdinfo"),
        (int(SpdAttribute.HINFO), "XFRMA_SPD_HINFO", "spdhinfo"),
        (int(SpdAttribute.IPV4_HTHRESH), "XFRMA_SPD_IPV4_HTHRESH", "spdhthresh"),
        (int(SpdAttribute.IPV6_HTHRESH), "XFRMA_SPD_IPV6_HTHRESH", "spdhthresh"),
    )

    class spdinfo(nla):  # noqa: N801
        """``xfrmu_spdinfo``."""

        fields = tuple((name, "I") for name in ("in", "out", "fwd", "in_s", "out_s", "fwd_s"))

    class spdhinfo(nla):  # noqa: N801
        """``xfrmu_spdhinfo``."""

        fields = (("spdhcnt", "I"), ("spdhmcnt", "I"))

    class spdhthresh(nla):  # noqa: N801
        """``xfrmu_spdhthresh``."""

        fields = (("lbits", "B"), ("rbits", "B"))


DECLARED: dict[XfrmMessage, type[Any]] = {
    XfrmMessage.NEWSA: StateMessage,
    XfrmMessage.UPDSA: StateMessage,
    XfrmMessage.DELSA: StateIdMessage,
    XfrmMessage.GETSA: StateIdMessage,
    XfrmMessage.NEWPOLICY: PolicyMessage,
    XfrmMessage.UPDPOLICY: PolicyMessage,
    XfrmMessage.DELPOLICY: PolicyIdMessage,
    XfrmMessage.GETPOLICY: PolicyIdMessage,
    XfrmMessage.MIGRATE: PolicyIdMessage,
    XfrmMessage.ACQUIRE: AcquireMessage,
    XfrmMessage.EXPIRE: ExpireMessage,
    XfrmMessage.MAPPING: MappingMessage,
    XfrmMessage.NEWAE: AsyncEventMessage,
    XfrmMessage.GETAE: AsyncEventMessage,
    XfrmMessage.FLUSHSA: FlushMessage,
    XfrmMessage.NEWSPDINFO: SpdInfoMessage,
    XfrmMessage.GETSPDINFO: SpdInfoMessage,
}
"""Which class describes which message."""
