"""What a site finds that has nothing but the wheel; ``nox -s wheel`` makes one and runs this."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import TestCase
from django.utils.translation import override

import usersessions
from usersessions.models import BackendSession
from usersessions.test import Client


class WheelTests(TestCase):
    client_class = Client

    def setUp(self) -> None:
        self.admin = User.objects.create_superuser("admin", None, "admin")

    def test_package_is_the_installed_one(self) -> None:
        assert "site-packages" in usersessions.__file__

    def test_person_logs_in_to_the_admin(self) -> None:
        person = {"username": "admin", "password": "admin"}
        response = self.client.post("/admin/login/?next=/admin/", person)
        self.assertRedirects(response, "/admin/")
        assert "be_sessionid" in response.cookies
        assert BackendSession.objects.get().ses_userid == self.admin.pk

    def test_admin_speaks_the_languages_of_the_package(self) -> None:
        self.client.force_login(self.admin, login_type="BE")
        for language, words in (("de", "Backend-Sitzungen"), ("fr", "Sessions backend")):
            with self.subTest(language), override(language):
                self.assertContains(self.client.get("/admin/django_usersessions/"), words)
