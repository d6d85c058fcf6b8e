"""What must hold of sessions whatever requests do at once, told apart from how they are stored.

Whoever logs in has a login, a number that goes with the session's data; each mapping of data has a
line, another number. So the storage itself tells which login and which data live on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

#: Keys of the data: who says that they are logged in by which login, and which data this is.
LOGIN, LINE = "login", "line"

#: Who everybody is whose session has no user.
NOBODY = "anon"


class Held(NamedTuple):
    """One mapping of data that is stored: a session's own, or what a switch has put aside."""

    owner: str
    data: dict[str, Any]
    is_aside: bool

    @property
    def keys(self) -> set[str]:
        return {key for key in self.data if ":" in key}


class Span(NamedTuple):
    """From when to when something was done, in steps, and to which logins."""

    logins: frozenset[int]
    began: int
    ended: int

    def overlaps(self, other: Span) -> bool:
        return self.began <= other.ended and other.began <= self.ended


Lines = dict[int, list[Held]]


class Model:
    """What was acknowledged to visitors. ``check()`` compares, when nothing is under way."""

    def __init__(self) -> None:
        self._numbers = count(1)
        #: When each login was ended, in steps.
        self.ended: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        self._kept: dict[int, set[str]] = defaultdict(set)
        self._deleted: dict[int, set[str]] = defaultdict(set)
        self._owners: dict[int, str] = {}
        self._over: set[int] = set()  # lines that may be gone, or come back by another tab's login
        #: How often lines were put aside and not brought back: their end is the switched session's.
        self._aside: Counter[int] = Counter()
        self._start_round()

    def _start_round(self) -> None:
        self._children: dict[int, list[int]] = defaultdict(list)
        self._logged_in: dict[str, list[int]] = defaultdict(list)
        self._revocations: list[Span] = []
        self._switches: list[Span] = []
        self._revoked_users: set[str] = set()
        self._ended_lines: list[int] = []
        self._has_collected = False

    def next(self) -> int:
        """Return a number that nothing else has: a step, a login, a line or a key."""
        return next(self._numbers)

    # What was acknowledged

    def note_write(self, line: int, owner: str, keys: Iterable[str]) -> None:
        self._kept[line].update(keys)
        self._owners.setdefault(line, owner)

    def note_deletion(self, line: int, keys: Iterable[str]) -> None:
        self._deleted[line].update(keys)

    def note_login(self, parent: int | None, line: int, owner: str, keys: Iterable[str]) -> None:
        """A login stores its data as a new line, which has what its parent had."""
        self.note_write(line, owner, keys)
        self._logged_in[owner].append(line)
        if parent is not None:
            self._children[parent].append(line)

    def note_end(self, login: int | None, line: int | None) -> None:
        if login is not None:
            self.ended.setdefault(login, self.next())
        if line is not None:
            self._over.add(line)
            self._ended_lines.append(line)

    def note_switch(self, login: int, parent: int, began: int, line: int, owner: str) -> None:
        """A switch takes a login aside, and with it what a revocation looks for."""
        self._switches.append(Span(frozenset([login]), began, self.next()))
        self._aside[parent] += 1
        self.note_write(line, owner, [])

    def note_exit(self, login: int, line: int, parent: int) -> None:
        self.note_end(login, line)
        self._aside[parent] -= 1  # it may be told after the next switch

    def note_revocation(self, owner: str, logins: Iterable[int], began: int) -> None:
        self._revocations.append(Span(frozenset(logins), began, self.next()))
        self._revoked_users.add(owner)

    def note_collection(self) -> None:
        self._has_collected = True

    # What must be so

    def check(self, held: list[Held]) -> None:
        self._end_revoked()
        lines: Lines = defaultdict(list)
        logins: set[int] = set()
        for each in held:
            strangers = {key for key in each.keys if not key.startswith((each.owner, NOBODY))}
            assert not strangers, f"{each.owner} has {sorted(strangers)}"
            lines[each.data[LINE]].append(each)
            if each.owner != NOBODY:
                logins.add(each.data[LOGIN])
        risen = logins & self.ended.keys()
        assert not risen, f"logins {sorted(risen)} have ended, and are there again"
        self._end_renewed()
        self._follow_logins(lines)
        for line in self._kept.keys() | self._deleted.keys():
            self._check_line(line, lines)
        self._start_round()

    def _end_revoked(self) -> None:
        for span in self._revocations:
            aside: set[int] = set()
            for switch in self._switches:
                if switch.overlaps(span):
                    aside |= switch.logins
            for login in span.logins - aside:
                self.ended.setdefault(login, span.ended)

    def _end_renewed(self) -> None:
        """A logout also ends what logins of the same person have made of it since."""
        ended = self._ended_lines
        while ended:
            line = ended.pop()
            for parent, children in self._children.items():
                if line not in (parent, *children):
                    continue
                ended += [
                    child
                    for child in children
                    if child not in self._over and self._owners[child] == self._owners.get(line)
                ]
            self._over.update(ended)

    def _follow_logins(self, lines: Lines) -> None:
        for parent in sorted(self._children):
            children = self._children[parent]
            if parent in lines:
                continue  # renewed by another tab meanwhile: the logins have what they had read
            kept, deleted = self._kept.pop(parent, set()), self._deleted.pop(parent, set())
            if parent in self._over or self._has_collected:
                continue  # the same, for it has ended
            if len(children) == 1:
                self._kept[children[0]] |= kept
                self._deleted[children[0]] |= deleted
                continue
            # Several tabs have logged in with one cookie: one has got the session.
            found = [each.keys for child in children for each in lines.get(child, [])]
            if len(found) == len(children):
                lost = kept - deleted - set[str]().union(*found)
                assert not lost, f"logins {children} of line {parent} have lost {sorted(lost)}"

    def _check_line(self, line: int, lines: Lines) -> None:
        held = lines.get(line, [])
        if line in self._over:
            return
        if not held:
            assert self._may_be_gone(line, lines), f"line {line} of {self._owners[line]} is gone"
            self._over.add(line)
            return
        for each in held:
            lost = self._kept[line] - self._deleted[line] - each.keys
            assert not lost, f"line {line} of {each.owner} has lost {sorted(lost)}"
            risen = self._deleted[line] & each.keys
            assert not risen, f"line {line} of {each.owner} has {sorted(risen)} again"

    def _may_be_gone(self, line: int, lines: Lines) -> bool:
        owner = self._owners[line]
        if owner in self._revoked_users or self._aside[line] > 0 or self._has_collected:
            return True
        # A login sent again, with the anonymous cookie of the first one, takes its data over.
        again = [other for other in self._logged_in[owner] if other != line]
        found = [each for other in again for each in lines.get(other, [])]
        if len(found) < len(again):
            return True
        kept = self._kept[line] - self._deleted[line]
        return any(kept <= each.keys | self._deleted[each.data[LINE]] for each in found)
