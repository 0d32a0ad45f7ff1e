"""The declared channels, and finding the declaration a channel's name belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import events as e
from .declaration import ChannelDeclaration, History, check_channel
from .errors import SettingsError, UnknownChannel

__all__ = [
    "APPROVALS",
    "AUTH",
    "BUILT_IN",
    "HUB_CACHE",
    "HUB_NODES",
    "JOBS",
    "NOTIFICATIONS",
    "ORGANISATION",
    "QUEUE",
    "RUN",
    "SESSION",
    "USAGE",
    "WORKSPACE",
    "Catalogue",
    "Channel",
]

_JOB_EVENTS = (
    e.JobEnqueued,
    e.JobStarted,
    e.JobProgress,
    e.JobCompleted,
    e.JobFailed,
    e.JobRetrying,
    e.JobDead,
    e.JobCancelled,
)

SESSION = ChannelDeclaration(
    "session:{workspace}:{session}",
    root="workspace",
    events=(
        e.SessionCreated,
        e.SessionUpdated,
        e.SessionMessage,
        e.SessionExtended,
        e.SessionDeleted,
        e.SessionExpired,
    ),
    subscribe="member",
    history=History(size=2_000, ttl_s=3_600),
    description="The working memory of one agent conversation, change by change.",
)
APPROVALS = ChannelDeclaration(
    "approvals:{workspace}",
    root="workspace",
    events=(
        e.ApprovalRequested,
        e.ApprovalVoted,
        e.ApprovalEscalated,
        e.ApprovalApproved,
        e.ApprovalEdited,
        e.ApprovalRejected,
        e.ApprovalExpired,
        e.ApprovalCancelled,
        e.ApprovalConsumed,
    ),
    subscribe="member",
    history=History(size=2_000, ttl_s=86_400),
    description="Actions that wait for a person, and what became of them.",
)
USAGE = ChannelDeclaration(
    "usage:{user}",
    root="user",
    events=(
        e.UsageRecorded,
        e.UsageCorrected,
        e.BudgetThreshold,
        e.BudgetExceeded,
        e.BudgetReserved,
        e.BudgetReleased,
        e.RateLimitExceeded,
    ),
    subscribe="self",
    history=History(size=2_000, ttl_s=3_600),
    description="What a user's agents use, and the limits it meets.",
)
QUEUE = ChannelDeclaration(
    "queue:{queue}",
    root="queue",
    events=_JOB_EVENTS,
    subscribe="scope:queues",
    history=History(size=10_000, ttl_s=600),
    description="Every step of every job of one queue, for operators.",
)
JOBS = ChannelDeclaration(
    "jobs:{workspace}",
    root="workspace",
    events=_JOB_EVENTS,
    subscribe="member",
    history=History(size=2_000, ttl_s=600),
    description="The jobs of one workspace.",
)
NOTIFICATIONS = ChannelDeclaration(
    "notifications:{user}",
    root="user",
    events=(e.NotificationCreated, e.NotificationResolved),
    subscribe="self",
    history=History(size=1_000, ttl_s=7 * 86_400),
    description="What needs this person now.",
)
AUTH = ChannelDeclaration(
    "auth:{user}",
    root="user",
    events=(
        e.AuthSessionCreated,
        e.AuthSessionRevoked,
        e.AuthSessionRotated,
        e.AuthSessionExpired,
    ),
    subscribe="self",
    history=History(size=1_000, ttl_s=86_400),
    description="A person's login sessions. Hubs follow it to end connections at once.",
)
WORKSPACE = ChannelDeclaration(
    "workspace:{workspace}",
    root="workspace",
    events=(
        e.FoundationUpdated,
        e.IcpsUpdated,
        e.CacheInvalidated,
        e.UsageCorrected,
        e.BudgetThreshold,
        e.BudgetExceeded,
        e.PreferencesUpdated,
        e.OnboardingStarted,
        e.OnboardingUpdated,
        e.OnboardingCompleted,
        e.OnboardingReset,
        e.OnboardingExpired,
        e.SemanticStored,
        e.SemanticRemoved,
        e.SemanticTightened,
    ),
    subscribe="member",
    history=History(size=1_000, ttl_s=3_600),
    description="What changes in a workspace as a whole.",
)
ORGANISATION = ChannelDeclaration(
    "org:{organisation}",
    root="organisation",
    events=(e.UsageCorrected, e.BudgetThreshold, e.BudgetExceeded),
    subscribe="scope:billing",
    history=History(size=1_000, ttl_s=3_600),
    description="What concerns an organisation as a whole: what it used, its budget.",
)
RUN = ChannelDeclaration(
    "run:{workspace}:{run}",
    root="workspace",
    events=(e.RunEvent,),
    subscribe="member",
    publish="member & scope:publish",
    history=History(size=10_000, ttl_s=3_600),
    description="An agent run's own event stream.",
)
HUB_NODES = ChannelDeclaration(
    "hub:nodes",
    events=(e.NodeReported,),
    subscribe="scope:hub",
    history=History(size=10, ttl_s=60),
    description="How the hub's nodes are, every few seconds; for dashboards.",
)
HUB_CACHE = ChannelDeclaration(
    "hub:cache",
    events=(e.CacheInvalidated,),
    subscribe="scope:hub",
    history=History(size=1_000, ttl_s=3_600),
    description="Cached values of no workspace that are out of date.",
)

BUILT_IN = (
    SESSION,
    APPROVALS,
    USAGE,
    QUEUE,
    JOBS,
    NOTIFICATIONS,
    AUTH,
    WORKSPACE,
    ORGANISATION,
    RUN,
    HUB_NODES,
    HUB_CACHE,
)


class Channel(NamedTuple):
    """A channel's name, understood.

    ``root`` is the id of the aggregate it belongs to (the name itself where it belongs to
    none): the hash tag of its keys.
    """

    name: str
    declaration: ChannelDeclaration
    params: dict[str, str]
    root: str


#: What an undeclared channel is when undeclared ones are allowed: any JSON, default history.
_UNDECLARED = ChannelDeclaration("undeclared:any", subscribe="anyone", publish="anyone")


class Catalogue:
    """The declarations of one hub, found by a channel's name.

    Where several match, the one with the fewest parameters holds, then the one declared first:
    ``a:admin`` is never taken for an ``a:{x}``, whatever the order.
    """

    __slots__ = ("_by_namespace", "open")

    def __init__(
        self,
        declarations: Iterable[ChannelDeclaration] = BUILT_IN,
        *,
        allow_undeclared: bool = False,
    ) -> None:
        """Collect declarations.

        Raises:
            SettingsError: two declarations have the same pattern, names of parameters apart.
        """
        #: Whether channels that nobody declared work, with default options.
        self.open = allow_undeclared
        self._by_namespace: dict[str, list[ChannelDeclaration]] = {}
        shapes: set[str] = set()
        for declaration in declarations:
            if declaration.shape in shapes:
                raise SettingsError(f"channel pattern {declaration.pattern!r} is declared twice")
            shapes.add(declaration.shape)
            self._by_namespace.setdefault(declaration.namespace, []).append(declaration)
        for alike in self._by_namespace.values():
            alike.sort(key=lambda declaration: len(declaration.params))

    def __iter__(self) -> Iterator[ChannelDeclaration]:
        """Yield the declarations, namespace by namespace."""
        for declarations in self._by_namespace.values():
            yield from declarations

    def find(self, name: str) -> Channel:
        """Return what the channel called ``name`` is.

        Raises:
            BadRequest: no channel can be called so.
            UnknownChannel: no declaration matches, and undeclared channels are not allowed.
        """
        namespace, colon, _ = name.partition(":")
        declarations = self._by_namespace.get(namespace, ()) if colon else ()
        for declaration in declarations:
            params = declaration.match(name)
            if params is not None:
                root = params[declaration.root] if declaration.root else name
                return Channel(name, declaration, params, root)
        check_channel(name)
        if self.open and not declarations:
            return Channel(name, _UNDECLARED, {}, name)
        if declarations:
            expected = " or ".join(declaration.pattern for declaration in declarations)
            raise UnknownChannel(f"channel {name!r} does not match {expected}")
        known = ", ".join(sorted(self._by_namespace))
        raise UnknownChannel(f"channel {name!r} is in no declared namespace: {known}")
