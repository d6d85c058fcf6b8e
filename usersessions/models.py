"""The tables of backend and frontend sessions, with TYPO3's columns."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .session.user_keys import UserId, stored_user_id


class AbstractUserSession(models.Model):
    """One stored session; the base class for a project's own session table.

    Only ``DatabaseSessionBackend`` writes rows; other code may read them.
    """

    ses_id = models.CharField(_("hash"), max_length=190, primary_key=True)
    ses_iplock = models.CharField(_("IP lock"), max_length=39, default="")
    ses_userid = models.BigIntegerField(_("user"), default=0)
    ses_tstamp = models.PositiveBigIntegerField(_("last update"), default=0)
    ses_data = models.BinaryField(_("data"), default=b"")

    class Meta:
        abstract = True
        indexes = [
            models.Index(fields=["ses_tstamp", "ses_userid"]),  # garbage collection
            models.Index(fields=["ses_userid"]),  # ending and listing one user's sessions
        ]

    def __str__(self) -> str:
        return self.short_hash

    @property
    def user_id(self) -> UserId | None:
        """The key of the session's user; None if it is anonymous."""
        return stored_user_id(self.ses_userid)

    @property
    def short_hash(self) -> str:
        """The first 8 digits of the hash: enough to tell sessions apart, too few to find one."""
        return self.ses_id[:8]


class BackendSession(AbstractUserSession):
    """A session of staff, in the admin (login type BE)."""

    class Meta(AbstractUserSession.Meta):
        db_table = "be_sessions"
        verbose_name = _("backend session")
        verbose_name_plural = _("backend sessions")


class FrontendSession(AbstractUserSession):
    """A session of a visitor or customer (login type FE)."""

    ses_permanent = models.BooleanField(pgettext_lazy("session", "permanent"), default=False)

    class Meta(AbstractUserSession.Meta):
        db_table = "fe_sessions"
        indexes = [
            # Includes ses_permanent, so that the admin's lists can filter by the index alone.
            models.Index(fields=["ses_tstamp", "ses_userid", "ses_permanent"]),
            models.Index(fields=["ses_userid"]),
        ]
        verbose_name = _("frontend session")
        verbose_name_plural = _("frontend sessions")
