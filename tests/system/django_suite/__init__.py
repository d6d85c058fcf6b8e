"""Django's own tests with our engine and middleware in place.

``python -m tests.system.django_suite`` runs them.
"""
