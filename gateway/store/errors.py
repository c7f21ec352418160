"""Why the store did not do it. Every text is meant for an administrator."""


class StoreError(Exception):
    """Base of all errors that the store raises; nothing of SQLAlchemy's leaves it."""


class UnavailableError(StoreError):
    """The database cannot be read or written now.

    Disk full or broken, server away. Nothing was changed. Try again later.
    """


class BusyError(UnavailableError):
    """Too much waits for the database already."""


class WrongKeyError(StoreError):
    """The key file is not the one that this database was sealed with, or it is gone."""


class SealError(StoreError):
    """Something sealed was changed, or belongs elsewhere, or was sealed with another key."""


class SchemaError(StoreError):
    """The database belongs to a newer version of the program, or is none of ours."""


class NotThereError(StoreError):
    """There is no such row."""


class ExistsError(StoreError):
    """A row of that name is there already."""


class VersionError(StoreError):
    """Somebody else changed it meanwhile (a lost update was prevented)."""

    def __init__(self, text: str, version: int) -> None:
        super().__init__(text)
        self.version = version
        """The version that is there."""


class ImportRefusedError(StoreError):
    """An import does not fit; nothing was changed. ``field`` names the place in the document."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}" if field else text)
        self.field = field
