"""The tables of the models as they are."""

from __future__ import annotations

from django.db import migrations

from tests.user_models.creation import create_models


class Migration(migrations.Migration):
    initial = True
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = create_models("text_users")
