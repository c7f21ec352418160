"""The audit is append-only, and the database itself demands it.

No row changes. A row goes only when it is older than the retention that the setting
``audit-days`` names (:meth:`gateway.store.audit.AuditRepository.trim` sets it); without that
setting none goes.
"""

from typing import Final

_SQLITE_UNCHANGED: Final = """
CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
"""
_SQLITE_KEPT: Final = """
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
WHEN old.at >= coalesce(
  (SELECT (julianday('now') - 2440587.5 - CAST(value AS REAL)) * 86400.0
   FROM setting WHERE name = 'audit-days'), -9e99)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
"""
_GUARD: Final = """
CREATE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF old.at < (SELECT extract(epoch FROM now()) - (value #>> '{}')::float * 86400.0
                 FROM setting WHERE name = 'audit-days') THEN
      RETURN old;
    END IF;
  END IF;
  RAISE EXCEPTION 'the audit is append-only';
END $$
"""
_UNCHANGED: Final = """
CREATE TRIGGER audit_unchanged BEFORE UPDATE OR DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION audit_guard()
"""
_KEPT: Final = """
CREATE TRIGGER audit_kept BEFORE TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()
"""
AUDIT_V1: Final[dict[str, tuple[str, ...]]] = {
    "sqlite": (_SQLITE_UNCHANGED, _SQLITE_KEPT),
    "postgresql": (_GUARD, _UNCHANGED, _KEPT),
}
"""As revision 0001 makes them."""
