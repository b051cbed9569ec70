"""Which hosts are in rotation, by the answers of the load balancers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

State = Literal["in", "out", "down", "unknown"]


class _Server(TypedDict):
    """A server as HAProxy sees it."""

    serves: bool
    status: NotRequired[str]


class _Entry(TypedDict):
    """Who took a host out of rotation."""

    procedure: str
    who: str
    since: str
    why: str


class Answer(TypedDict):
    """The answer of a load balancer; `servers` is None if it is not set up."""

    servers: dict[str, _Server] | None
    out: dict[str, _Entry]


@dataclass(frozen=True)
class Rotation:
    """Whether a host is in rotation; `why` is a sentence's part, empty if it is in on all load balancers."""

    state: State
    why: str = ""


def read(result: Mapping[str, Any]) -> Answer | str:
    """The answer of a load balancer's task, or why there is none."""
    if result.get("unreachable") or result.get("failed") or "out" not in result:
        lines = str(result.get("msg") or "it did not answer").strip().splitlines()
        return lines[-1][-200:] if lines else "it did not answer"
    try:
        return shape.typed(Answer, result, "the answer")
    except shape.ShapeError as error:
        return f"its answer is malformed: {error}"


def of_host(host: str, answers: Mapping[str, Answer | str]) -> Rotation:
    """Whether a host is in rotation, by the answers of all load balancers. The worst answer counts."""
    seen = [_seen(host, name, answer) for name, answer in answers.items()]
    order: Sequence[State] = ("out", "down", "unknown", "in")
    return min(
        seen,
        key=lambda each: order.index(each.state),
        default=Rotation("unknown", "no load balancer answered"),
    )


def _seen(host: str, balancer: str, answer: Answer | str) -> Rotation:
    if isinstance(answer, str):
        return Rotation("unknown", f"{balancer}: {answer}")
    if entry := answer["out"].get(host):
        return Rotation(
            "out", f"{entry['who']} took it out with {entry['procedure']} at {entry['since']}: {entry['why']}"
        )
    if answer["servers"] is None:
        return Rotation("unknown", f"{balancer} is not set up")
    server = answer["servers"].get(host)
    if server is None:
        return Rotation("out", f"{balancer} does not have it; run load_balancer.yml")
    if not server["serves"]:
        return Rotation("down", f"{balancer} sees it {server.get('status') or 'down'}")
    return Rotation("in")
