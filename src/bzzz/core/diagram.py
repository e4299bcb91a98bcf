"""The claim's state diagram, drawn from the transition table so that it cannot lie."""

from __future__ import annotations

from bzzz.core.claim import TRANSITIONS, ClaimState


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
