"""Signals of switching user; both are sent with ``request``, ``original_user``, ``target_user``
and ``login_type`` (the name), the user model as sender."""

from django.dispatch import Signal

#: A session was bound to another user. The request's response has not been sent yet.
user_switched = Signal()

#: A switched session went back to its original user, or ended in a request of its own: by
#: ``exit_switch_user()``, a logout, ``flush()``, a login, or because the switch is no longer
#: allowed. ``request`` is None outside of a request; a deleted user is None.
user_switched_back = Signal()
