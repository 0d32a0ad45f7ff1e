"""What people ask the demo agent for, and what it does about it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TASKS", "Task"]


class Task(NamedTuple):
    """What somebody asks for, and what the agent does about it."""

    question: str
    answer: str
    tool: str
    args: dict[str, object]
    steps: tuple[str, ...]
    #: What needs a person's word, empty where nothing does.
    needs_approval: str = ""


TASKS = (
    Task(
        "Which of our trial accounts are likely to convert this month?",
        "Eleven of the forty-two trials look ready: they invited colleagues, connected their "
        "calendar and came back three days in a row. I would write to these first.",
        "crm.search",
        {"segment": "trial", "signal": "activation"},
        ("reading accounts", "scoring", "ranking"),
    ),
    Task(
        "Draft the launch mail for the spring release and send it to the beta group.",
        "Here is a draft of 140 words with the two features they asked for most. It goes to "
        "318 people once somebody has read it.",
        "mail.send",
        {"list": "beta", "recipients": 318, "subject": "Spring is here"},
        ("collecting release notes", "writing", "checking links"),
        "A mail to 318 people cannot be taken back.",
    ),
    Task(
        "Refund order 5521, the package never arrived.",
        "The carrier lost it on the 3rd. The refund of 74.90 USD is prepared; it needs a "
        "second pair of eyes because the order is older than thirty days.",
        "payments.refund",
        {"order": "5521", "amount_usd": 74.9},
        ("asking the carrier", "preparing the refund"),
        "The order is older than thirty days.",
    ),
    Task(
        "Summarise what customers said about onboarding last week.",
        "Twenty-six people mentioned it. Most liked the checklist; nine were lost at the "
        "import step, always at the same question about time zones.",
        "feedback.search",
        {"topic": "onboarding", "days": 7},
        ("fetching tickets", "clustering", "writing the summary"),
    ),
    Task(
        "Move the staging database to the larger machine tonight.",
        "I planned it for 02:00 UTC: eleven minutes of read-only time, and a way back at "
        "every step. The plan waits for a word.",
        "infra.migrate",
        {"database": "staging", "at": "02:00Z"},
        ("measuring", "planning", "rehearsing"),
        "Eleven minutes of read-only time.",
    ),
)
