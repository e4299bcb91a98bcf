"""The composition root: the one module that knows every adapter and wires them to a node's ports."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bzzz import __version__
from bzzz.agents.runner import ProcessAgentRunner
from bzzz.agents.setting import AgentSettings
from bzzz.cli.compose_mesh import mesh_settings, secret_path
from bzzz.cli.token import Tokens
from bzzz.config import Config
from bzzz.core.capability import keywords, priority, task_type
from bzzz.core.profile import Policy, Profile
from bzzz.core.task import Comment, Issue, Repository, Task, TaskId
from bzzz.errors import UsageError
from bzzz.forge.admission import Policy as AdmissionPolicy
from bzzz.forge.admission import admit, knows, shown_title
from bzzz.forge.client import GitHubForge
from bzzz.hive.client import HttpHive
from bzzz.journal.store import SqliteJournal
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.ports import Transport
from bzzz.runtime.clock import SystemClock
from bzzz.runtime.event_log import EventLog, LoggedEvent
from bzzz.runtime.node import Node
from bzzz.runtime.shells import AgentChoice, Shells
from bzzz.web.escalation_hook import EscalationHook

LABELS_MAX = 50


@dataclass(frozen=True, slots=True)
class Composed:
    """A node that is ready to run, with the parts that others show."""

    node: Node
    transport: Transport
    journal: SqliteJournal


def compose_node(config: Config, echo: Callable[[LoggedEvent], None]) -> Composed:
    """Make a node from its settings.

    Raises:
        UsageError: a file cannot be used, or another node runs on the same folder.
        TransportError: the identity or an address is wrong.
    """
    clock = SystemClock()
    data_dir = config.data_dir
    tokens = Tokens(config)
    journal = SqliteJournal(data_dir / "journal.db")
    transport = _transport(config, data_dir)
    profile = Profile(
        peer=transport.peer_id,
        agent=config.name,
        incarnation=journal.next_incarnation(least=int(clock.wall_s())),
        seed=secrets.token_hex(16),
        capabilities=_capabilities(config),
        specialization=config["node.specialization"],
        models=config["node.models"],
        max_tasks=config["node.max_tasks"],
        version=__version__,
        wall_at_zero_s=clock.wall_s() - clock.now_ms() / 1000,
    )
    policy = Policy(
        label=config["tasks.label"],
        claim_ttl_s=config["tasks.claim_ttl_s"],
        renew_interval_ms=config["tasks.claim_ttl_s"] * 1000 // 3,
        strikes_max=config["tasks.strikes_max"],
        watch_interval_min_ms=config["tasks.watch_interval_s"] * 1000,
    )
    events = EventLog(clock.wall_s, echo)
    hive = HttpHive(config["hive.url"], config.hive_key or None, clock) if config["hive.url"] else None
    escalation_url = config["hooks.escalation_url"]
    shells = Shells(
        transport=transport,
        ledger=GitRefLedger(tokens.for_git),
        forge=GitHubForge(tokens.for_api, clock),
        hive=hive,
        runner=ProcessAgentRunner(_agent_settings(config, data_dir, transport.peer_id), tokens.for_git),
        journal=journal,
        clock=clock,
        agent=_agent_choice(config),
        admit=_admission(config),
        may_ask=_may_ask(config),
        escalate=EscalationHook(escalation_url) if escalation_url else None,
    )
    return Composed(Node(profile, policy, shells, events), transport, journal)


def _transport(config: Config, data_dir: Path) -> Transport:
    if config["mesh.engine"] == "zenoh":
        return _zenoh_transport(config, data_dir)
    return Libp2pTransport(mesh_settings(config))


def _zenoh_transport(config: Config, data_dir: Path) -> Transport:
    # A node on libp2p has no need of them.
    from bzzz.mesh.zenoh_settings import TlsFiles, ZenohSettings
    from bzzz.mesh.zenoh_transport import ZenohTransport

    secret = secret_path(config)
    if secret.exists():
        raise UsageError(
            f"{secret}: this mesh secret is for libp2p; zenoh admits by mesh.tls_certificate, so move the file away"
        )
    files = [config[f"mesh.tls_{name}"] for name in ("certificate", "key", "ca")]
    return ZenohTransport(
        ZenohSettings(
            identity_file=data_dir / "identity.key",
            listen=config["mesh.listen"],
            static_peers=config["mesh.peers"],
            routers=config["mesh.routers"],
            mesh_name=config["mesh.name"],
            mdns=config["mesh.mdns"],
            tls=TlsFiles(*map(Path, files)) if all(files) else None,
        )
    )


def _agent_settings(config: Config, data_dir: Path, peer: str) -> AgentSettings:
    return AgentSettings(
        folder=data_dir,
        node=peer,
        sandbox=config["agent.sandbox"],
        sandbox_paths=tuple(map(Path, config["agent.readable"])),
        network=config["agent.network"],
        path=config["agent.path"],
        author_email=config["agent.author_email"],
        check_required=config["agent.check_required"],
        trusted_associations=config["forge.associations"],
    )


def _agent_choice(config: Config) -> AgentChoice:
    configuration: dict[str, Any] = {"kind": config["agent.kind"]}
    if config["agent.kind"] == "command":
        configuration |= {
            "command": list(config["agent.command"]),
            "prompt": config["agent.prompt"],
            "env": dict(config["agent.environment"]),
            "env_files": dict(config["agent.environment_files"]),
        }
    return AgentChoice(
        name=config.name,
        configuration=configuration,
        wall_s_max=config["agent.wall_s_max"],
        idle_s_max=config["agent.idle_s_max"],
    )


def _capabilities(config: Config) -> tuple[str, ...]:
    """What the settings name, and the agent: by its kind, and by its program's name."""
    agent = [config["agent.kind"]]
    if config["agent.kind"] == "command" and config["agent.command"]:
        agent.append(Path(config["agent.command"][0]).name)
    return tuple(dict.fromkeys([*config["node.capabilities"], *agent]))


def _digest(issue: Issue) -> str:
    text = f"{issue.title}\0{issue.body}"
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _may_ask(config: Config) -> Callable[[Comment], bool]:
    policy = AdmissionPolicy(associations=frozenset(config["forge.associations"]))
    return lambda comment: knows(policy, comment.author, comment.association)


def _admission(config: Config) -> Callable[[Repository, Issue], Task | str]:
    policy = AdmissionPolicy(label=config["tasks.label"], associations=frozenset(config["forge.associations"]))

    def decide(repository: Repository, issue: Issue) -> Task | str:
        rules = repository.rules
        for label in rules.labels or (policy.label,):
            verdict = admit(issue, replace(policy, label=label))
            if verdict.reason is not None:
                return verdict.reason.value
        # What a project asks of its agents is gossiped as a label is, so that every node ranks alike.
        needs = (f"needs-{rules.agent}",) if rules.agent else ()
        labels = tuple(label[:100] for label in (*needs, *issue.labels)[:LABELS_MAX])
        return Task(
            id=TaskId(repository.key, issue.number),
            title=shown_title(issue.title),
            task_type=task_type(labels, issue.title, issue.body),
            priority=priority(labels),
            labels=labels,
            keywords=keywords(issue.title, issue.body),
            url=issue.url,
            updated_at=issue.updated_at,
            digest=_digest(issue),
        )

    return decide
