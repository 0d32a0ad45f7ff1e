"""Preferences: what a workspace, or one person in it, would like.

    preferences = services.for_workspace("w1").preferences
    await preferences.patch({"theme": "dark", "mail": {"daily": True}}, user="ann")
    (await preferences.get(user="ann")).values

They are a JSON object without a schema, or a struct: ``preferences.typed(Theme)``. Each field
of the object is kept by itself, so that writers of different fields do not undo each other,
and fields that a program does not know survive it. They never expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from channels.catalogue import WORKSPACE
from channels.errors import BadRequest, Conflict, LimitExceeded, VersionConflict
from channels.events import PreferencesUpdated, PreferencesUpdatedData
from channels.ids import check_id
from services.auth_session import from_ms
from services.context import Context
from services.documents import (
    MAX_FIELDS,
    Document,
    check_patch,
    merge,
    needs_reading,
    patch_terms,
    version_pieces,
)
from services.store.port import Reply
from services.store.script import load_script

__all__ = ["Preferences", "PreferencesState"]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

#: How long a patch is known by its op id.
_OP_TTL_MS = 86_400_000
#: Patches that merge into the same object meet; each time at least one of them gets through.
_ATTEMPTS = 32


class PreferencesState(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Preferences as of one ``version``, which rises by one with every change, from 0.

    ``values`` are what is stored, over the defaults; ``changed_at`` is None while nobody
    changed anything.
    """

    values: T
    version: int
    changed_at: datetime | None = None


class Preferences(Generic[T]):
    """The preferences of one workspace, and those of each user in it."""

    __slots__ = ("_context", "_defaults", "_patch", "_shape", "workspace")

    def __init__(
        self,
        context: Context,
        workspace: str,
        *,
        shape: type[T],
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        """Make a view; ``shape`` is what values are read as: ``dict``, or a struct.

        Raises:
            BadRequest: ``workspace`` is not an id, or the defaults are no JSON object.
        """
        self.workspace = check_id(workspace, "workspace")
        self._context = context
        self._shape = shape
        self._defaults = check_patch(defaults or {})
        self._patch = load_script("preferences_patch")

    def typed(
        self, shape: type[S], *, defaults: Mapping[str, object] | None = None
    ) -> Preferences[S]:
        """Return the same preferences as structs of this shape.

        What a patch sets must be a field of it and of the field's type. Fields that it does
        not know stay as they are, and are not shown.
        """
        return Preferences(self._context, self.workspace, shape=shape, defaults=defaults)

    async def get(self, *, user: str = "") -> PreferencesState[T]:
        """Return the preferences of ``user``, or the workspace's own, over the defaults.

        Raises:
            BadRequest: ``user`` is not an id, or what is stored is not of the type.
            StoreError: they could not be read.
        """
        document = await self._read(user)
        return self._state(document, self._defaults)

    async def effective(self, user: str) -> PreferencesState[T]:
        """Return what holds for ``user``: theirs, over the workspace's, over the defaults.

        The version is that of the user's own. Raises like :meth:`get`.
        """
        keys = (self._key(check_id(user, "user")), self._key(""))
        found = await self._context.store.pipeline([("HGETALL", key) for key in keys])
        for reply in found:
            if isinstance(reply, Exception):
                raise reply
        own, shared = (Document.read(cast(Reply, reply)) for reply in found)
        return self._state(own, merge(self._defaults, shared.values))

    async def patch(
        self,
        patch: Mapping[str, object],
        *,
        user: str = "",
        expected_version: int | None = None,
        op_id: str | None = None,
    ) -> PreferencesState[T]:
        """Change preferences by a JSON merge patch (RFC 7396); return them as they are then.

        ``None`` removes a field, so that its default holds again; an object is merged into an
        object; anything else replaces. With an ``op_id`` the call may be repeated for a day:
        it is done once. An empty patch changes nothing and is not told.

        Raises:
            BadRequest: it is no such patch, or sets what the type does not have.
            LimitExceeded: there would be too many fields, or one is too long.
            VersionConflict: they are not at ``expected_version``; ``current`` is where they are.
            Conflict: others changed the same object again and again; nothing was changed.
            StoreUnavailable, StoreRefused: nothing was changed.
            OutcomeUnknown: they may have been changed.
        """
        plain = check_patch(patch)
        if op_id is not None:
            check_id(op_id, "op id")
        document = Document({}, {})
        if not plain or needs_reading(plain):
            document = await self._read(user)
        if not plain:
            _check_version(expected_version, document)
            return self._state(document, self._defaults)
        for _ in range(_ATTEMPTS):
            self._check_types(plain, document)
            code, document = await self._run(plain, document, user, expected_version, op_id)
            match code:
                case 1 | 2:
                    return self._state(document, self._defaults)
                case 3:
                    _check_version(expected_version, document)
                case 4:
                    raise LimitExceeded(f"preferences have {MAX_FIELDS} fields at most")
        raise Conflict("others changed the same fields again and again; try again later")

    async def reset(
        self, *, user: str = "", expected_version: int | None = None
    ) -> PreferencesState[T]:
        """Remove every field, so that the defaults hold; told as a patch of nulls.

        Raises like :meth:`patch`.
        """
        for _ in range(_ATTEMPTS):
            document = await self._read(user)
            _check_version(expected_version, document)
            if not document.texts:
                return self._state(document, self._defaults)
            nulls = dict.fromkeys(document.texts)
            code, document = await self._run(nulls, document, user, document.version, None)
            if code == 1:
                return self._state(document, self._defaults)
        raise Conflict("others changed the preferences again and again; try again later")

    async def _read(self, user: str) -> Document:
        found = await self._context.store.execute("HGETALL", self._key(user))
        return Document.read(found)

    async def _run(
        self,
        patch: dict[str, Any],
        document: Document,
        user: str,
        expected_version: int | None,
        op_id: str | None,
    ) -> tuple[int, Document]:
        context = self._context
        keys = [self._key(user)]
        if op_id is not None:
            keys.append(context.keys.request_op(self.workspace, f"prefs:{user}:{op_id}"))
        template = PreferencesUpdated(
            data=PreferencesUpdatedData(workspace=self.workspace, patch=patch, user=user)
        )
        before, after = version_pieces(template)
        now_ms = context.clock.now_ms()
        outcome = await context.changes.run(
            self._patch,
            context.catalogue.find(WORKSPACE.name(workspace=self.workspace)),
            keys,
            [
                *(before, after, now_ms),
                "" if expected_version is None else expected_version,
                _OP_TTL_MS,
                *patch_terms(patch, document),
            ],
            event=template.id,
            now_ms=now_ms,
        )
        return outcome.code, Document.read(outcome.values[0])

    def _key(self, user: str) -> str:
        return self._context.keys.preferences(
            self.workspace, check_id(user, "user") if user else ""
        )

    def _state(self, document: Document, defaults: Mapping[str, object]) -> PreferencesState[T]:
        values = merge(defaults, document.values)
        if issubclass(self._shape, msgspec.Struct):
            # Also for one that forbids what it does not know.
            known = {field.encode_name for field in msgspec.structs.fields(self._shape)}
            values = {name: value for name, value in values.items() if name in known}
        changed = document.meta.get("t")
        try:
            converted = msgspec.convert(values, self._shape)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the preferences are not a {self._shape.__name__}: {error}") from None
        return PreferencesState(
            values=converted,
            version=document.version,
            changed_at=None if changed is None else from_ms(int(changed)),
        )

    def _check_types(self, patch: dict[str, Any], document: Document) -> None:
        """Refuse a patch after which the struct could not be read."""
        if not issubclass(self._shape, msgspec.Struct):
            return
        fields = {field.encode_name: field for field in msgspec.structs.fields(self._shape)}
        for name, value in patch.items():
            field = fields.get(name)
            if field is None:
                raise BadRequest(
                    f"{self._shape.__name__} has no field {name!r}; "
                    f"expected one of {', '.join(fields)}"
                )
            if value is None:
                if field.required and name not in self._defaults:
                    raise BadRequest(f"the field {name!r} has no default, so it cannot be removed")
                continue
            text = document.texts.get(name) if isinstance(value, dict) else None
            stored = None if text is None else msgspec.json.decode(text)
            after = merge(self._defaults.get(name), merge(stored, value))
            try:
                msgspec.convert(after, field.type)
            except msgspec.ValidationError as error:
                raise BadRequest(f"the field {name!r} cannot be set so: {error}") from None


def _check_version(expected: int | None, document: Document) -> None:
    if expected is not None and expected != document.version:
        raise VersionConflict(
            f"expected the preferences at version {expected}; they are at {document.version}",
            document.version,
        )
