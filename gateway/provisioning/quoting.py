"""Texts of others inside languages of others: none of them can end its quotes."""

import base64
import re

_PLAIN = re.compile(r"[A-Za-z0-9@._:/%+-]+")
_POWERSHELL_PLAIN = re.compile(r"[A-Za-z0-9 @._:/%+=,()*#-]*")
_TOML = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_KEYFILE = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml(text: str) -> str:
    """A basic string of TOML; whatever is not printable is escaped."""
    return '"' + "".join(_TOML.get(one) or _toml_letter(one) for one in text) + '"'


def _toml_letter(letter: str) -> str:
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def toml_lines(text: str) -> str:
    """A PEM text as a literal string over several lines. It must not hold three apostrophes."""
    if "'''" in text:
        return toml(text)
    return f"'''\n{text}'''"


def swan(text: str) -> str:
    """A value of swanctl.conf."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = "".join(_TOML.get(one, one) for one in text)
    return f'"{escaped}"'


def swan_secret(text: str) -> str:
    """A secret of swanctl.conf, in hexadecimal: its letters mean nothing."""
    return f"0x{text.encode().hex()}"


def powershell(text: str) -> str:
    """A string of PowerShell, whatever the encoding that its file is read in.

    PowerShell takes four kinds of apostrophes for a quote, and Windows reads scripts in its own
    code page: what is not harmless ASCII goes as base64.
    """
    if _POWERSHELL_PLAIN.fullmatch(text):
        return f"'{text}'"
    octets = base64.b64encode(text.encode()).decode()
    return f"([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{octets}')))"


def keyfile(text: str) -> str:
    """A value of a GLib key file, as NetworkManager reads it."""
    escaped = "".join(_KEYFILE.get(one, one) for one in text)
    if escaped.startswith(" "):
        escaped = "\\s" + escaped[1:]
    return escaped
