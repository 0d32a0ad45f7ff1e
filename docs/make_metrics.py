"""Makes ``docs/metrics.md`` from the table of metrics.

Run it from the root of the repository: ``python -m docs.make_metrics``.
"""
# ruff: noqa: INP001 - docs is a folder of texts with a script, not a package

from __future__ import annotations

from pathlib import Path

from hub.histogram import BOUNDS_S
from hub.metrics.exposition import FAMILIES
from hub.metrics.family import Family

TARGET = Path(__file__).parent / "metrics.md"

TEXT = """\
# Metrics

The table is made from `hub/metrics/exposition.py` by `python -m docs.make_metrics`.

`GET /metrics` tells them in the text format of Prometheus, or in OpenMetrics to whoever asks
for it. It wants the API key of the server API, in `X-API-Key` or in `Authorization` as `apikey`
or `Bearer`; with `metrics_public = true`, and with `--insecure`, it wants nothing. It is not open
by itself on a loopback address: there a reverse proxy usually stands before the hub, and
everybody's requests come from it. No name of a channel or user is told.

```yaml
scrape_configs:
  - job_name: fanwire
    authorization:
      type: apikey
      credentials_file: /etc/prometheus/fanwire-api-key
    static_configs:
      - targets: ["hub.example.com:8000"]
```

Whichever worker answers asks the others, so one scrape shows the whole port, as of now. Each
sample has the label `worker`, the number of the worker's place; with one worker it is `0`. A
worker that is replaced begins at 0 in the same place: a reset, which `rate()` and `increase()`
see and go on over. So sum after the rate: `sum(rate(fanwire_deliveries_total[1m]))`. One that
is being replaced, or whose event loop stands still, has `fanwire_worker_up` 0 and nothing else.

| metric | kind | labels | what |
|---|---|---|---|
{rows}

The buckets of the histograms end at {bounds} seconds.

## What to watch

| what | expression |
|---|---|
{watches}
"""

WATCHES = (
    ("a worker is away", "fanwire_worker_up == 0"),
    ("Redis is away", "fanwire_store_ready == 0"),
    (
        "99 % of the messages are written to everybody within",
        "histogram_quantile(0.99, sum by (le) (rate(fanwire_write_lag_seconds_bucket[5m])))",
    ),
    (
        "a worker has more to do than it can: add one",
        "rate(fanwire_process_cpu_seconds_total[1m]) > 0.9",
    ),
    (
        "clients are too slow for their channels",
        'rate(fanwire_dropped_connections_total{reason="slow"}[5m]) > 0',
    ),
    ("subscribers lost publications", "increase(fanwire_follower_gaps_total[5m]) > 0"),
)


def make() -> str:
    """Return the text of ``docs/metrics.md``."""
    return TEXT.format(
        rows="\n".join(map(_row, FAMILIES)),
        watches="\n".join(f"| {what} | `{expression}` |" for what, expression in WATCHES),
        bounds=", ".join(f"{bound:g}" for bound in BOUNDS_S),
    )


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help} |"


if __name__ == "__main__":
    TARGET.write_text(make(), encoding="utf-8")
