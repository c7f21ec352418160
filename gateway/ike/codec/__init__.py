"""IKE messages and payloads as octets and as dataclasses."""
