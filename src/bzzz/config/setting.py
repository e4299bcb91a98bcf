"""Every setting, once: its key, default, form, variable and meaning.

The parser, the error messages, ``bzzz config`` and the README's table are all made from ``SETTINGS``.
Secrets are never settings themselves: a setting names the file that holds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bzzz.config import value as form


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    ``read`` turns what was found into the value, or raises ``ValueError`` saying what is allowed.
    ``env`` is the variable that overrides the file; text from there is split at commas for lists.
    """

    key: str
    default: Any
    read: Callable[[Any], Any]
    meaning: str
    env: str = ""


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "node.name",
        "",
        form.name_or_empty,
        "the name people know this node by; the host's name if empty",
        "BZZZ_AGENT_ID",
    ),
    Setting(
        "node.data_dir",
        "~/.local/share/bzzz",
        form.folder,
        "identity, journal, mirrors and attempts",
        "BZZZ_DATA_DIR",
    ),
    Setting(
        "node.capabilities",
        (),
        form.words,
        "what this node can do, such as code-generation",
        "BZZZ_AGENT_CAPABILITIES",
    ),
    Setting(
        "node.specialization",
        "",
        form.text,
        "what it does best; matching tasks come to it first",
        "BZZZ_AGENT_SPECIALIZATION",
    ),
    Setting("node.models", (), form.words, "models it runs, as tasks may ask for by a label model-NAME"),
    Setting("node.max_tasks", 1, form.whole(1, 64), "attempts at the same time"),
    Setting(
        "node.log_level", "info", form.level, "what is printed: debug, info, warning or error", "BZZZ_LOG_LEVEL"
    ),
    Setting(
        "hive.url", "", form.url, "where repositories are discovered and work is reported", "BZZZ_HIVE_API_URL"
    ),
    Setting("hive.key_file", "", form.path, "file with Hive's API key", "BZZZ_HIVE_API_KEY_FILE"),
    Setting(
        "mesh.engine",
        "libp2p",
        form.choice("libp2p", "zenoh"),
        "what carries the mesh: libp2p for 3 to 20 nodes, zenoh for more; the same on all of them",
        "BZZZ_MESH_ENGINE",
    ),
    Setting("mesh.name", "bzzz", form.name, "only nodes with the same mesh name meet", "BZZZ_MESH_NAME"),
    Setting(
        "mesh.listen",
        ("/ip4/0.0.0.0/tcp/4001",),
        form.listen,
        "where the node listens for peers",
        "BZZZ_MESH_LISTEN",
    ),
    Setting("mesh.mdns", True, form.flag, "find peers on the local network by multicast DNS", "BZZZ_MESH_MDNS"),
    Setting(
        "mesh.peers",
        (),
        form.peers,
        "peers to keep connected: /ip4/192.0.2.7/tcp/4001, /dns/NAME/tcp/4001 (every address of the name) or "
        "/dnsaddr/NAME, with /p2p/PEER_ID or without",
        "BZZZ_MESH_PEERS",
    ),
    Setting(
        "mesh.secret_file",
        "",
        form.path,
        "file with the mesh's name and secret, from bzzz mesh init or join; mesh.secret in node.data_dir if that "
        "is there",
        "BZZZ_MESH_SECRET_FILE",
    ),
    Setting(
        "mesh.allowed_peers",
        (),
        form.peer_ids,
        "the only peer ids that are let in, all who know the secret if empty",
        "BZZZ_MESH_ALLOWED_PEERS",
    ),
    Setting(
        "mesh.revoked_file",
        "",
        form.path,
        "file with peer ids that are kept out, read again as it changes; revoked_peers in node.data_dir if empty",
        "BZZZ_MESH_REVOKED_FILE",
    ),
    Setting("mesh.dns", True, form.flag, "look up names in mesh.peers, again as they change", "BZZZ_MESH_DNS"),
    Setting(
        "mesh.gossip_addresses",
        True,
        form.flag,
        "tell the mesh where this node listens, and dial who is heard of",
        "BZZZ_MESH_GOSSIP_ADDRESSES",
    ),
    Setting("mesh.routers", (), form.addresses, "zenoh alone: routers for nodes that have no way to each other"),
    Setting(
        "mesh.tls_certificate",
        "",
        form.path,
        "zenoh alone: this node's certificate; only its authority's are admitted",
    ),
    Setting("mesh.tls_key", "", form.path, "zenoh alone: the certificate's private key"),
    Setting("mesh.tls_ca", "", form.path, "zenoh alone: the certificate of the authority"),
    Setting(
        "forge.token_file",
        "",
        form.path,
        "file with the token for github.com",
        "BZZZ_GITHUB_TOKEN_FILE",
    ),
    Setting(
        "forge.token_files", {}, form.paths, "files with tokens for other forges, by host (https) or host:port"
    ),
    Setting(
        "forge.associations",
        ("OWNER", "MEMBER", "COLLABORATOR"),
        form.associations,
        "whose issues and diffs are taken, by GitHub's word for them",
    ),
    Setting(
        "agent.kind",
        "patch",
        form.choice("patch", "command"),
        "patch applies a maintainer's diff; command runs a program",
        "BZZZ_AGENT_KIND",
    ),
    Setting(
        "agent.command", (), form.texts, "the program and its arguments; {prompt} and {prompt_file} are filled in"
    ),
    Setting("agent.prompt", "stdin", form.choice("stdin", "argument", "file"), "how the program gets its prompt"),
    Setting("agent.environment", {}, form.environment, "variables that the program sees, none of them secret"),
    Setting(
        "agent.environment_files",
        {},
        form.environment_files,
        "variables whose values are read from files, such as a model's key",
    ),
    Setting(
        "agent.sandbox",
        "auto",
        form.choice("auto", "bubblewrap", "none"),
        "how agent and checks are contained; none contains nothing",
        "BZZZ_AGENT_SANDBOX",
    ),
    Setting(
        "agent.network",
        "none",
        form.choice("none", "host"),
        "host lets agent and checks use this machine's whole network: a program that asks a model needs it",
        "BZZZ_AGENT_NETWORK",
    ),
    Setting(
        "agent.readable",
        (),
        form.folders,
        "folders that agent and checks may read beside the system's: where their programs are installed",
    ),
    Setting("agent.path", "", form.search_path, "their PATH; the system's folders if empty"),
    Setting("agent.author_email", "noreply@bzzz.invalid", form.mail_address, "the address in commits"),
    Setting("agent.wall_s_max", 3600, form.whole(1, 86_400), "seconds an attempt may take"),
    Setting("agent.idle_s_max", 600, form.whole(1, 86_400), "seconds it may show no sign of life"),
    Setting("agent.check_required", True, form.flag, "no delivery where the repository names no check"),
    Setting("tasks.label", "bzzz-task", form.label, "the label that makes an issue a task"),
    Setting(
        "tasks.claim_ttl_s",
        900,
        form.whole(60, 86_400),
        "silence after which a claim may be taken over, at the weakest evidence",
    ),
    Setting("tasks.strikes_max", 3, form.whole(1, 100), "failed attempts before a person is asked"),
    Setting(
        "tasks.watch_interval_s",
        10,
        form.whole(1, 300),
        "seconds between two readings of a repository, at the quickest",
    ),
    Setting(
        "api.host",
        "127.0.0.1",
        form.choice("127.0.0.1", "::1", "localhost"),
        "where the local API listens: loopback only",
    ),
    Setting(
        "api.port",
        0,
        form.whole(0, 65_535),
        "its port; 0 takes a free one, which bzzz status finds",
        "BZZZ_API_PORT",
    ),
    Setting(
        "hooks.escalation_url", "", form.hook, "is told of every escalation by a POST", "BZZZ_ESCALATION_WEBHOOK"
    ),
    Setting(
        "hooks.model_selection_url",
        "",
        form.hook,
        "kept for the predecessor's settings; no agent here asks it",
        "BZZZ_MODEL_SELECTION_WEBHOOK",
    ),
)


def describe() -> Sequence[Mapping[str, str]]:
    """Every setting as text, for help and documentation."""
    rows = []
    for setting in SETTINGS:
        default = setting.default
        shown = (
            ", ".join(default)
            if isinstance(default, tuple)
            else str(default).lower()
            if isinstance(default, bool)
            else str(default)
        )
        rows.append(
            {
                "key": setting.key,
                "default": "" if default in ((), {}, "") else shown,
                "env": setting.env,
                "meaning": setting.meaning,
            }
        )
    return rows
