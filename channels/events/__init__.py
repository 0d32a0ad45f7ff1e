"""The typed events of Fanwire, one module an aggregate.

The tables in ``docs/events.md`` are made from these classes.
"""

from .approvals import *
from .auth import *
from .hub import *
from .notifications import *
from .queues import *
from .runs import *
from .semantic import *
from .sessions import *
from .usage import *
from .workspaces import *
