"""What a node is and the rules it plays by: values set once, when the core is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """This node, as it describes itself to others.

    ``peer`` is its mesh identity, ``agent`` the name people know it by. ``incarnation`` counts its starts
    and orders everything that it ever said. ``seed`` is fresh randomness from this start; nonces come
    from it. ``wall_at_zero_s`` is the wall clock when the monotonic one was 0: it dates records for people.
    """

    peer: str
    agent: str
    incarnation: int
    seed: str
    capabilities: tuple[str, ...] = ()
    specialization: str = ""
    models: tuple[str, ...] = ()
    max_tasks: int = 1
    version: str = ""
    wall_at_zero_s: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Every interval and bound of the core, with its unit last in the name."""

    label: str = "bzzz-task"
    turn_step_ms: int = 300
    claim_ttl_s: int = 900
    renew_interval_ms: int = 300_000
    strikes_max: int = 3
    attempt_backoff_ms: int = 30_000
    rate_limited_cooldown_ms: int = 300_000

    heartbeat_interval_ms: int = 30_000
    hello_spacing_ms: int = 100
    silent_after_ms: int = 95_000
    probe_interval_ms: int = 1_000
    probe_interval_max_ms: int = 30_000
    refusal_gap_ms: int = 1_000
    refused_reclaim_ms: int = 5_000
    returned_holder_grace_ms: int = 3_000
    hint_ttl_ms: int = 75_000
    hint_trust_ms: int = 180_000
    hint_refuted_ms: int = 600_000
    check_spacing_ms: int = 5_000
    late_tick_ms: int = 5_000
    objection_wait_ms: int = 60_000
    objection_ask_ms: int = 15_000
    vouches_max: int = 8
    vouched_ms_max: int = 7_200_000
    vouches_per_minute_max: int = 60

    repositories_interval_ms: int = 60_000
    watch_interval_min_ms: int = 10_000
    watch_interval_max_ms: int = 300_000
    watch_spacing_ms: int = 200
    elect_delay_ms: int = 100
    orphans_per_reading_max: int = 5
    audit_interval_ms: int = 600_000
    settle_ms: int = 1_500
    settle_max_ms: int = 8_000
    announce_interval_ms: int = 30_000
    announce_batch_max: int = 20

    retry_ms: int = 1_000
    retry_max_ms: int = 60_000

    tasks_max: int = 10_000
    members_max: int = 1_000
    member_tasks_max: int = 1_000
    repositories_max: int = 1_000
