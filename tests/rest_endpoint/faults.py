"""What can happen to a request between two machines."""

from __future__ import annotations

from enum import Enum

__all__ = ["Fault"]


class Fault(Enum):
    """What happens to the next request; those after it are served again."""

    #: Connection cut before anything is executed.
    RESET = "reset"
    #: Executed, then the connection is cut: no reply.
    DROP = "drop"
    #: Executed, then half of the reply.
    TRUNCATE = "truncate"
    #: Executed, and the reply is held back until ``release()``.
    HANG = "hang"
    #: Not executed, held back until ``release()``, then cut.
    STALL = "stall"
    #: Not executed: 429 with an error in JSON.
    TOO_MANY = "too many"
    #: Not executed: 503 with a page of HTML, as a load balancer has it.
    HTML_503 = "503"
    #: Not executed: 500 with an error in JSON.
    ERROR_500 = "500"
    #: Not executed: a redirect to somewhere else.
    REDIRECT = "redirect"
    #: Not executed: 200 with a page of HTML, as a captive portal has it.
    HTML_200 = "html"
    #: Executed, but the reply is JSON of another shape.
    ODD_JSON = "odd"
    #: Executed, but strings are not in base64.
    PLAIN = "plain"
