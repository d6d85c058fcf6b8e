"""One view of an API, for the session of whichever login type serves its path."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from usersessions import auth


@api_view(["GET", "POST"])
@authentication_classes([SessionAuthentication])
@permission_classes([IsAuthenticated])
def who(request: Any) -> Response:
    """Tell who asks, who is logged in to the backend, and keep what is posted."""
    if request.method == "POST":
        request.session["note"] = request.data["note"]
    return Response(
        {
            "user": request.user.get_username(),
            "editor": auth.get_user(request, "BE").get_username(),
            "note": request.session.get("note"),
        }
    )
