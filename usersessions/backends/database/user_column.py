"""How a table stores the user of a session."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import CharField, Field, ForeignKey, IntegerField, Q, TextField, UUIDField


class UserColumn:
    """The field ``ses_userid`` of a session model: of integers, or of other keys that users have.

    An anonymous session has NULL there if the field allows it, else 0 or, in a column of text, "".
    """

    def __init__(self, field: Field[Any, Any]) -> None:
        self.field = field
        if field.null:
            self.no_user: int | str | None = None
            self._users = "IS NOT NULL", Q(ses_userid__isnull=False)
            self._anonymous = "IS NULL", Q(ses_userid__isnull=True)
        elif isinstance(field, IntegerField):
            self.no_user = 0
            self._users = "> 0", Q(ses_userid__gt=0)
            self._anonymous = "<= 0", Q(ses_userid__lte=0)
        else:
            self.no_user = ""
            self._users = "<> ''", ~Q(ses_userid="")
            self._anonymous = "= ''", Q(ses_userid="")

    def sql(self, *, anonymous: bool) -> str:
        """Return the condition on the column, as SQL to follow its name."""
        return (self._anonymous if anonymous else self._users)[0]

    def condition(self, *, anonymous: bool) -> Q:
        """Return the same condition for the ORM."""
        return (self._anonymous if anonymous else self._users)[1]

    def find_fault(self) -> str | None:
        """Return why the keys of the site's users do not fit into the column, None if they do."""
        key, column = user_key_field(), self.field
        if isinstance(column, (CharField, TextField)):
            return _find_fault_of_text(column, key)
        is_same_kind = any(
            isinstance(column, kind) and isinstance(key, kind) for kind in (IntegerField, UUIDField)
        )
        if not is_same_kind:
            return f"is a {type(column).__name__}"
        if isinstance(column, UUIDField) and not column.null:
            return "has no value for anonymous sessions: it needs null=True"
        if isinstance(column, IntegerField) and _highest(column) < _highest(key):
            return f"holds no numbers above {_highest(column)}"
        return None


def fitting_column() -> str:
    """Return the field for a session model, as Python, that holds the keys of the site's users."""
    key = user_key_field()
    if isinstance(key, IntegerField):
        return "BigIntegerField(default=0)"
    if isinstance(key, UUIDField):
        return "UUIDField(null=True)"
    collation = f', db_collation="{_collation(key)}"' if _collation(key) else ""
    return f'CharField(max_length={_length_as_text(key) or 255}, default=""{collation})'


def user_key_field() -> Field[Any, Any]:
    """Return the field that gives the site's users their keys."""
    key: Any = get_user_model()._meta.pk
    while isinstance(key, ForeignKey):  # of a model that extends another user model
        key = key.target_field
    return key  # type: ignore[no-any-return]


def _highest(field: Field[Any, Any]) -> int:
    return BaseDatabaseOperations.integer_field_ranges[field.get_internal_type()][1]


def _find_fault_of_text(column: Field[Any, Any], key: Field[Any, Any]) -> str | None:
    needed, collation = _length_as_text(key), _collation(key)
    if column.max_length is not None and column.max_length < needed:
        return f"holds {column.max_length} characters, {needed} are needed"
    # Else the keys of two users might be one key here.
    if isinstance(key, (CharField, TextField)) and _collation(column) != collation:
        return f"does not compare text by the users' collation, {collation or 'the default'}"
    return None


def _collation(field: Field[Any, Any]) -> str | None:
    return getattr(field, "db_collation", None)


def _length_as_text(key: Field[Any, Any]) -> int:
    if isinstance(key, IntegerField):
        return 20
    return 36 if isinstance(key, UUIDField) else key.max_length or 0
