"""A test runner that knows which of Django's tests fail with us, and why."""

from __future__ import annotations

from typing import Any
from unittest import TestSuite

from django.test.runner import DiscoverRunner
from django.test.utils import iter_test_cases

from tests.system.django_suite.differences import DIFFERENCES


class Runner(DiscoverRunner):
    """Takes a test with a known difference that passes for a failure as well."""

    def build_suite(self, *args: Any, **kwargs: Any) -> TestSuite:
        suite = super().build_suite(*args, **kwargs)
        for test in iter_test_cases(suite):
            if test.id() in DIFFERENCES:
                test.__unittest_expecting_failure__ = True
        return suite
