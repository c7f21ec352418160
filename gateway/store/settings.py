"""What the gateway itself remembers, by name."""

from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from gateway.store.schema import SETTINGS

AUDIT_DAYS: Final = "audit-days"
"""How long entries of the audit stay; the trigger that guards them reads it."""
KEY_CHECK: Final = "key-check"
"""Something sealed, to know the key by."""
BOOT: Final = "boot"
"""Boot id of the machine when sessions were written last."""
IMPORTED: Final = "imported"
"""Files of older versions that were taken in."""


class SettingRepository:
    """Settings within the transaction of ``connection``. Values are JSON; secrets only sealed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str, default: object = None) -> object:
        """The value, or ``default``."""
        wanted = select(SETTINGS.c.value).where(SETTINGS.c.name == name)
        row = self._connection.execute(wanted).one_or_none()
        return default if row is None else row.value

    def all(self) -> dict[str, object]:
        """Every setting."""
        return {row.name: row.value for row in self._connection.execute(select(SETTINGS))}

    def put(self, name: str, value: object) -> None:
        """Set it."""
        changed = update(SETTINGS).where(SETTINGS.c.name == name).values(value=value)
        if not self._connection.execute(changed).rowcount:
            self._connection.execute(insert(SETTINGS).values(name=name, value=value))

    def take(self, name: str) -> object:
        """Remove it; what it was, or None. Of two that take it at once only one gets it."""
        gone = delete(SETTINGS).where(SETTINGS.c.name == name).returning(SETTINGS.c.value)
        row = self._connection.execute(gone).one_or_none()
        return None if row is None else row.value
