"""What happens to a job on its way through a queue."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "JobCancelled",
    "JobCompleted",
    "JobCompletedData",
    "JobData",
    "JobDead",
    "JobEnqueued",
    "JobEnqueuedData",
    "JobFailed",
    "JobFailedData",
    "JobProgress",
    "JobProgressData",
    "JobRetrying",
    "JobRetryingData",
    "JobStarted",
]


class JobData(msgspec.Struct, frozen=True, kw_only=True):
    """What every job event tells. ``kind`` names the handler; attempts start at 1."""

    queue: Id
    workspace: Id
    job: Id
    kind: str
    attempt: Annotated[int, Meta(ge=0)] = 0


class JobEnqueuedData(JobData, frozen=True, kw_only=True):
    """``run_at`` is set when the job waits for its time."""

    priority: int = 5
    run_at: Annotated[datetime, Meta(tz=True)] | None = None


class JobProgressData(JobData, frozen=True, kw_only=True):
    """``done`` of ``total`` units; ``total`` 0 means unknown."""

    done: Annotated[float, Meta(ge=0)]
    total: Annotated[float, Meta(ge=0)] = 0
    note: str = ""


class JobCompletedData(JobData, frozen=True, kw_only=True):
    """The handler returned ``result``."""

    result: Any = None


class JobFailedData(JobData, frozen=True, kw_only=True):
    """The attempt failed with ``error``, one line."""

    error: str


class JobRetryingData(JobFailedData, frozen=True, kw_only=True):
    """The job is tried again at ``run_at``."""

    run_at: Annotated[datetime, Meta(tz=True)]


class JobEnqueued(Event, frozen=True, kw_only=True, tag="job.enqueued"):
    """A job waits in its queue."""

    data: JobEnqueuedData


class JobStarted(Event, frozen=True, kw_only=True, tag="job.started"):
    """A worker took the job."""

    data: JobData


class JobProgress(Event, frozen=True, kw_only=True, tag="job.progress"):
    """The job got further."""

    # The end of a job is an event of its own, so the newest progress is all there is to know.
    conflate_by: ClassVar[str] = "job"

    data: JobProgressData


class JobCompleted(Event, frozen=True, kw_only=True, tag="job.completed"):
    """The job is done."""

    data: JobCompletedData


class JobFailed(Event, frozen=True, kw_only=True, tag="job.failed"):
    """An attempt failed."""

    data: JobFailedData


class JobRetrying(Event, frozen=True, kw_only=True, tag="job.retrying"):
    """The job will be tried again."""

    data: JobRetryingData


class JobDead(Event, frozen=True, kw_only=True, tag="job.dead"):
    """The job failed for the last time and waits among the dead letters."""

    data: JobFailedData


class JobCancelled(Event, frozen=True, kw_only=True, tag="job.cancelled"):
    """The job is no longer wanted."""

    data: JobData
