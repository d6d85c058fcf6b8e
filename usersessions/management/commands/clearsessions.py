"""Django's command, also where ``django.contrib.sessions`` is not installed."""

from django.contrib.sessions.management.commands.clearsessions import Command

__all__ = ["Command"]
