"""By which index the tests' database finds the rows of a statement."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import NOW


class Search(NamedTuple):
    """One search for rows of a table.

    :ivar index: the columns of the index, the first two of them
    :ivar conditions: what is looked up of the first one: "=", or bounds, "<" and ">"
    """

    index: list[str]
    conditions: list[str]


BY_KEY = Search(["ses_id"], ["="])
BY_USER = Search(["ses_userid"], ["="])
BY_TIME = Search(["ses_tstamp", "ses_userid"], ["<", ">"])


def kinds_of_revocation(sessions: int = 1) -> list[str]:
    """Return with which statements all of a user's sessions end, of which there are so many."""
    if connection.vendor != "mysql":
        return ["DELETE"]
    return ["SELECT", "DELETE", "DELETE"] if sessions else ["SELECT", "DELETE"]


def searches_of(operation: Callable[[], Any], table: str) -> list[Search]:
    """Return how each statement of an operation finds its rows.

    Where one reads the whole table, or sorts by reading a whole index, there is an error.
    """
    with CaptureQueriesContext(connection) as queries:
        operation()
    if connection.vendor == "postgresql":
        _fill(table)
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
        indexes = {name: constraint["columns"] for name, constraint in constraints.items()}
        indexes[f"sqlite_autoindex_{table}_1"] = ["ses_id"]
        found = []
        for query in queries.captured_queries:
            if "SAVEPOINT" in query["sql"]:
                continue
            index, conditions = FOUND_BY[connection.vendor](cursor, query["sql"])
            first = re.findall(rf"\b{indexes[index][0]}[)`]* ?(<=>|[<=>]|in\b)", conditions)
            kinds = {{"<=>": "=", "in": "="}.get(kind, kind) for kind in first}
            found.append(Search(indexes[index][:2], sorted(kinds)))
    return found


def _fill(table: str) -> None:
    """Give PostgreSQL a table that is worth a choice: of a few rows, any index is as cheap."""
    [model] = [model for model in apps.get_models() if model._meta.db_table == table]
    model._default_manager.bulk_create(
        model(
            ses_id=f"filler {number}",
            ses_userid=number % 2 * (1000 + number),
            ses_tstamp=NOW - 5000 + number,
        )
        for number in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")


def _explain(cursor: Any, how: str, sql: str) -> list[Any]:
    cursor.execute(f"{how} {sql}".replace("%", "%%"), [])
    return list(cursor.fetchall())


def _found_by_sqlite(cursor: Any, sql: str) -> tuple[str, str]:
    steps = [step for *_, step in _explain(cursor, "EXPLAIN QUERY PLAN", sql)]
    [step] = [step for step in steps if step != "USE TEMP B-TREE FOR ORDER BY"]
    found = re.fullmatch(r"SEARCH \w+ USING (?:COVERING )?INDEX (\w+) \((.*)\)", step)
    assert found, step
    return found[1], found[2]


def _found_by_postgresql(cursor: Any, sql: str) -> tuple[str, str]:
    # Of a few rows, it would read all.
    cursor.execute("SET LOCAL enable_seqscan = off")
    [[[explained]]] = _explain(cursor, "EXPLAIN (FORMAT JSON)", sql)
    [step] = [step for step in _dicts_in(explained) if "Index Name" in step]
    return step["Index Name"], step["Index Cond"].replace("::text", "")


def _found_by_mysql(cursor: Any, sql: str) -> tuple[str, str]:
    [[explained]] = _explain(cursor, "EXPLAIN FORMAT=JSON", sql)
    [step] = [step for step in _dicts_in(json.loads(explained)) if "access_type" in step]
    assert step["access_type"] in ("const", "ref", "range"), step
    if step["access_type"] == "range":
        return step["key"], step.get("index_condition", "") + step["attached_condition"]
    return step["key"], f"{step['used_key_parts'][0]} ="


FOUND_BY = {
    "sqlite": _found_by_sqlite,
    "postgresql": _found_by_postgresql,
    "mysql": _found_by_mysql,
}


def _dicts_in(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from _dicts_in(each)
