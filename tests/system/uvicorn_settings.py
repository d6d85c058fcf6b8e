"""A site of async views on PostgreSQL, for test_uvicorn.py: on our engine or on Django's own."""

from __future__ import annotations

import os

import dj_database_url

SECRET_KEY = "only for tests" * 5
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.system.uvicorn_urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

SESSION_ENGINE = os.environ["USERSESSIONS_TEST_ENGINE"]
SESSION_APP, SESSION_MIDDLEWARE = (
    ("usersessions", "usersessions.middleware.UserSessionMiddleware")
    if SESSION_ENGINE == "usersessions.store"
    else ("django.contrib.sessions", "django.contrib.sessions.middleware.SessionMiddleware")
)
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", SESSION_APP]
MIDDLEWARE = [SESSION_MIDDLEWARE, "django.contrib.auth.middleware.AuthenticationMiddleware"]

#: Connections at most; without a pool, Django opens one for each request that it is serving.
POOL_SIZE = 20
DATABASES = {
    "default": {
        **dj_database_url.parse(os.environ["USERSESSIONS_TEST_DATABASE"]),
        "OPTIONS": {"pool": {"min_size": 1, "max_size": POOL_SIZE, "timeout": 30}},
    }
}
