"""The metrics of the services: limits, caches, usage and budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from hub.metrics.family import Family, by_label, one
from hub.metrics.snapshot import Snapshot

__all__ = ["SERVICE_FAMILIES"]


def _outcomes(
    stats: Callable[[Snapshot], msgspec.Struct], **fields: str
) -> Callable[[Snapshot], Iterable[tuple[tuple[str, ...], int]]]:
    """Read counters under one name: ``fields`` says which label each counter has."""
    return lambda snapshot: [
        ((label,), getattr(stats(snapshot), field)) for label, field in fields.items()
    ]


SERVICE_FAMILIES: tuple[Family, ...] = (
    Family(
        "fanwire_limit_checks_total",
        "counter",
        "Checks of the rate limiter, by outcome.",
        _outcomes(lambda snapshot: snapshot.limits, allowed="allowed", denied="denied"),
        ("outcome",),
    ),
    Family(
        "fanwire_limit_denials_total",
        "counter",
        "Denials, by the policy that denied; one check may be denied by several.",
        by_label(lambda snapshot: snapshot.limits.denied_by),
        ("policy",),
    ),
    Family(
        "fanwire_limit_known_denials_total",
        "counter",
        "Denials that the process remembered, so that Redis was not asked.",
        one(lambda snapshot: snapshot.limits.known),
    ),
    Family(
        "fanwire_limit_degraded_checks_total",
        "counter",
        "Checks that were decided without Redis, because it was away.",
        one(lambda snapshot: snapshot.limits.degraded),
    ),
    Family(
        "fanwire_limit_outages_total",
        "counter",
        "How often Redis began to count as away for the rate limiter.",
        one(lambda snapshot: snapshot.limits.outages),
    ),
    Family(
        "fanwire_limit_slots_total",
        "counter",
        "Slots, by outcome: taken, refused because none was free, lost because their lease ran "
        "out.",
        _outcomes(
            lambda snapshot: snapshot.limits,
            taken="slots_taken",
            refused="slots_refused",
            lost="slots_lost",
        ),
        ("outcome",),
    ),
    Family(
        "fanwire_cache_reads_total",
        "counter",
        "Reads of caches, by where the value came from: memory, redis, load (it had to be "
        "loaded), shared (another caller's read or load).",
        _outcomes(
            lambda snapshot: snapshot.cache,
            memory="local_hits",
            redis="hits",
            load="misses",
            shared="shared",
        ),
        ("source",),
    ),
    Family(
        "fanwire_cache_old_values_total",
        "counter",
        "Values that were returned although their time was over, by reason: they are loaded anew "
        "meanwhile (stale), the load is slow, it failed, Redis is away (outage).",
        _outcomes(
            lambda snapshot: snapshot.cache,
            stale="stale",
            slow="slow",
            failed="fail_safe",
            outage="outage",
        ),
        ("reason",),
    ),
    Family(
        "fanwire_cache_loads_total",
        "counter",
        "Loads that were begun, by anybody or in the background.",
        one(lambda snapshot: snapshot.cache.loads),
    ),
    Family(
        "fanwire_cache_load_failures_total",
        "counter",
        "Loads that failed or took too long.",
        one(lambda snapshot: snapshot.cache.failures),
    ),
    Family(
        "fanwire_cache_fills_total",
        "counter",
        "Loaded values, by what became of them: kept, out_of_date (invalidated meanwhile), "
        "too_large.",
        _outcomes(
            lambda snapshot: snapshot.cache,
            kept="fills",
            out_of_date="refused",
            too_large="too_large",
        ),
        ("outcome",),
    ),
    Family(
        "fanwire_cache_invalidations_total",
        "counter",
        "Invalidations, made here or heard of.",
        _outcomes(
            lambda snapshot: snapshot.cache, made="invalidations", heard="invalidations_heard"
        ),
        ("how",),
    ),
    Family(
        "fanwire_cache_evictions_total",
        "counter",
        "Values that left the process's memory for want of room.",
        one(lambda snapshot: snapshot.cache.evictions),
    ),
    Family(
        "fanwire_cache_store_errors_total",
        "counter",
        "Calls of caches to Redis that failed.",
        one(lambda snapshot: snapshot.cache.store_errors),
    ),
    Family(
        "fanwire_semantic_lookups_total",
        "counter",
        "Questions to semantic caches, by answer: exact, semantic (one that means the same), miss, "
        "skipped (not to be cached).",
        _outcomes(
            lambda snapshot: snapshot.semantic,
            exact="exact",
            semantic="semantic",
            miss="misses",
            skipped="skipped",
        ),
        ("answer",),
    ),
    Family(
        "fanwire_semantic_refusals_total",
        "counter",
        "Near answers that the guard refused, by what was different.",
        by_label(lambda snapshot: snapshot.semantic.refusals),
        ("reason",),
    ),
    Family(
        "fanwire_semantic_judged_total",
        "counter",
        "Uncertain answers that the application's judge looked at.",
        one(lambda snapshot: snapshot.semantic.judged),
    ),
    Family(
        "fanwire_semantic_shadow_samples_total",
        "counter",
        "Hits that were compared with a fresh answer, by outcome.",
        lambda snapshot: [
            (("same",), snapshot.semantic.shadow_samples - snapshot.semantic.false_hits),
            (("false_hit",), snapshot.semantic.false_hits),
        ],
        ("outcome",),
    ),
    Family(
        "fanwire_semantic_entries_total",
        "counter",
        "Entries, by what became of them: stored, outdated (invalidated while it was made), "
        "evicted, expired, invalidated.",
        _outcomes(
            lambda snapshot: snapshot.semantic,
            stored="stored",
            outdated="outdated",
            evicted="evictions",
            expired="expired",
            invalidated="invalidated",
        ),
        ("what",),
    ),
    Family(
        "fanwire_usage_events_total",
        "counter",
        "Uses, by outcome: counted, or duplicate (had been counted before).",
        _outcomes(lambda snapshot: snapshot.usage, counted="recorded", duplicate="duplicates"),
        ("outcome",),
    ),
    Family(
        "fanwire_usage_written_total",
        "counter",
        "Uses that this process brought into the database.",
        one(lambda snapshot: snapshot.usage.written),
    ),
    Family(
        "fanwire_usage_write_failures_total",
        "counter",
        "Transactions with uses that failed; they are tried again.",
        one(lambda snapshot: snapshot.usage.write_failures),
    ),
    Family(
        "fanwire_usage_dead_total",
        "counter",
        "Entries that could not be read and were set aside.",
        one(lambda snapshot: snapshot.usage.dead),
    ),
    Family(
        "fanwire_usage_pending_age_seconds",
        "gauge",
        "How old the oldest use was that the last transaction brought into the database.",
        one(lambda snapshot: snapshot.usage.pending_age_s),
    ),
    Family(
        "fanwire_usage_corrected_days_total",
        "counter",
        "Days that reconciliation put right in Redis.",
        one(lambda snapshot: snapshot.usage.corrected),
    ),
    Family(
        "fanwire_budget_holds_total",
        "counter",
        "What was done with holds. late (committed after its end) and overage (charged more than "
        "was set aside) are committed too.",
        _outcomes(
            lambda snapshot: snapshot.budgets,
            reserved="reserved",
            extended="extended",
            committed="committed",
            late="late",
            overage="overage",
            released="released",
            expired="expired",
        ),
        ("what",),
    ),
    Family(
        "fanwire_budget_denials_total",
        "counter",
        "Refusals for want of budget, by whose it was.",
        _outcomes(
            lambda snapshot: snapshot.budgets,
            user="denied_user",
            workspace="denied_workspace",
            org="denied_org",
        ),
        ("scope",),
    ),
    Family(
        "fanwire_budget_thresholds_total",
        "counter",
        "Thresholds of budgets that were told.",
        one(lambda snapshot: snapshot.budgets.told),
    ),
)
