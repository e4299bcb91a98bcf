"""The claim's state diagram and its page, drawn from the transition table so that they cannot lie."""

from __future__ import annotations

from bzzz.core.claim import HOLDING, OCCUPYING, TRANSITIONS, ClaimEvent, ClaimState

_HEAD = """# Claim states

What one node is doing about one task's claim. This page is drawn from the transition table in
`bzzz.core.claim` by `scripts/claim_states.py`; a test fails when it is not current. What is not in the table
raises `IllegalTransition` and changes nothing.
"""


def mermaid() -> str:
    """The table as a Mermaid state diagram, which GitHub and Gitea draw; one line a transition, sorted."""
    lines = ["stateDiagram-v2", f"    [*] --> {ClaimState.IDLE.name}"]
    grouped: dict[tuple[str, str], list[str]] = {}
    for (state, event), after in TRANSITIONS.items():
        grouped.setdefault((state.name, after.name), []).append(event.value)
    order = {state.name: place for place, state in enumerate(ClaimState)}
    pairs = sorted(grouped, key=lambda pair: (order[pair[0]], order[pair[1]]))
    lines += [f"    {before} --> {after}: {', '.join(grouped[before, after])}" for before, after in pairs]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole of ``docs/claim-states.md``: the diagram, and the table it is drawn from."""
    lines = [
        _HEAD,
        "```mermaid",
        mermaid().rstrip(),
        "```",
        "",
        "| in state | this happens | next state |",
        "|---|---|---|",
    ]
    for state in ClaimState:
        for event in ClaimEvent:
            after = TRANSITIONS.get((state, event))
            if after is not None:
                lines.append(f"| `{state.name}` | {event.value} | `{after.name}` |")
    holding = ", ".join(f"`{state.name}`" for state in ClaimState if state in HOLDING)
    occupying = ", ".join(f"`{state.name}`" for state in ClaimState if state in OCCUPYING)
    lines += [
        "",
        f"The node counts as the holder, and lists the task in its heartbeat, in: {holding}.",
        "",
        f"One of the node's places is taken in: {occupying}.",
    ]
    return "\n".join(lines) + "\n"
