"""Makes ``tuning.tsv``: pairs of prompts from templates, labelled by how they were made.

    python -m benchmarks.data.semantic_pairs.make_pairs

One label and two prompts a line. ``paraphrase`` ask for the same, all others do not. The
templates and words are ours; all three files are dedicated to the public domain (CC0 1.0).
``held_out.tsv`` was written by hand, apart from this, and is used for nothing but measuring; so
was ``independent.tsv``, by somebody who had read neither the tables of the guard nor these files.
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parent / "tuning.tsv"

ACTIONS = [
    "reset the password", "export a report", "cancel the subscription", "invite a member",
    "change the language", "restore a backup", "rotate an API key", "create a webhook",
    "set up a custom domain", "archive a project", "merge two accounts", "print an invoice",
    "schedule a job", "restart the server", "share a dashboard", "filter a table",
]  # fmt: skip
ASKING = [
    "How do I {}?", "How can I {}?", "What is the way to {}?", "What are the steps to {}?",
    "Please explain how to {}", "I don't know how to {}, can you help?",
]  # fmt: skip
FACTS = ["photosynthesis", "a hash table", "inflation", "a neural network", "a black hole",
         "an index fund", "DNS", "osmosis", "a monad", "compound interest"]  # fmt: skip
TELLING = ["What is {}?", "Explain {}", "What does {} mean?", "Can you describe {}?"]
SWAPS = {
    "antonym": [
        ("open", "close", "How do I {} the valve?"), ("enable", "disable", "How to {} logging"),
        ("buy", "sell", "When should I {} bonds?"), ("before", "after", "Stretch {} a workout?"),
        ("import", "export", "How do I {} contacts?"), ("start", "stop", "How do I {} the timer?"),
        ("maximum", "minimum", "What is the {} length?"), ("add", "remove", "How to {} a column"),
        ("expand", "collapse", "How do I {} a row?"), ("encrypt", "decrypt", "{} a file in Go"),
        ("mute", "unmute", "How do I {} a channel?"), ("best", "worst", "What is the {} diet?"),
    ],
    "number": [
        (str(a), str(b), template)
        for a, b in ((3, 4), (10, 20), (25, 250), (7, 70), (1.5, 2.5))
        for template in ("What is {} squared?", "A tent for {} people", "Retry after {} seconds")
    ],
    "unit": [
        (a, b, template)
        for a, b in (("kg", "lb"), ("miles", "km"), ("hours", "minutes"), ("GB", "TB"))
        for template in ("How much is 12 {}?", "What does 3 {} cost to ship?")
    ],
    "date": [
        (a, b, template)
        for a, b in (("Monday", "Sunday"), ("May 2021", "June 2021"), ("1969", "1979"),
                     ("2024-01-02", "2024-02-01"), ("Q1", "Q3"))
        for template in ("What was released on {}?", "Revenue for {}", "Is it open in {}?")
    ],
    "entity": [
        (a, b, template)
        for a, b in (("France", "Italy"), ("Berlin", "Vienna"), ("Japan", "Korea"))
        for template in ("What is the currency of {}?", "Visa rules for {}", "Weather in {}")
    ] + [
        (a, b, template)
        for a, b in (("Python", "Rust"), ("MySQL", "SQLite"), ("Firefox", "Chrome"))
        for template in ("How do I install {}?", "Is {} open source?", "Latest flaws of {}")
    ],
    "negation": [
        ("is", "is not", "Why {} the cache warm?"), ("can", "can't", "{} I share a link?"),
        ("does", "doesn't", "Why {} it compile?"), ("with", "without", "Login {} a password"),
        ("should", "shouldn't", "Why {} I use threads?"), ("supported", "unsupported", "Is it {}?"),
        ("always", "never", "Is the lock {} held?"), ("do", "do not", "Which cars {} need oil?"),
    ],
    "role": [
        ("A to B", "B to A", "Migrate data from database {}"),
        ("CSV to JSON", "JSON to CSV", "Convert {} in bash"),
        ("inches to metres", "metres to inches", "Convert {}"),
        ("English to Dutch", "Dutch to English", "Translate {}"),
    ],
    "quantifier": [
        ("at least", "at most", "Discount for {} 5 seats"),
        ("more than", "less than", "Orders of {} 100 units"),
        ("all", "some", "Do {} plans have SSO?"), ("only", "also", "Is it {} for admins?"),
    ],
    "near": [
        ("cake", "pizza", "How do I bake a {}?"), ("stack", "queue", "What is a {}?"),
        ("keyboard", "monitor", "How do I clean a {}?"), ("tax", "tip", "How do I compute a {}?"),
        ("guitar", "piano", "How do I tune a {}?"), ("comment", "page", "How do I delete a {}?"),
    ],
}  # fmt: skip


def make() -> list[tuple[str, str, str]]:
    """Return label and prompts of every pair."""
    pairs = []
    for topics, forms in ((ACTIONS, ASKING), (FACTS, TELLING)):
        for number, topic in enumerate(topics):
            for first in range(len(forms)):
                pairs += [
                    ("paraphrase", forms[first].format(topic), second.format(topic))
                    for second in forms[first + 1 :]
                ]
            other = topics[(number + 5) % len(topics)]
            pairs.append(("unrelated", forms[0].format(topic), forms[0].format(other)))
    for label, swaps in SWAPS.items():
        for one, other, template in swaps:
            pairs.append((label, template.format(one), template.format(other)))
    return pairs


if __name__ == "__main__":
    TARGET.write_text("".join("\t".join(pair) + "\n" for pair in make()), encoding="utf-8")
