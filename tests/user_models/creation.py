"""What the migrations of the user models have in common."""

from __future__ import annotations

from django.apps import apps
from django.db.migrations import CreateModel
from django.db.migrations.state import ModelState


def create_models(app_label: str) -> list[CreateModel]:
    """Return what makes the tables of an app's models, none of which has been made before."""
    states = map(ModelState.from_model, apps.get_app_config(app_label).get_models())
    return [
        CreateModel(state.name, [*state.fields.items()], state.options, state.bases, state.managers)
        for state in states
    ]
