"""Rules of a game: KataGo's rule sets by name, and their parts.

Queries always contain the parts, never a name. So the same rules give the same query under any name
[GTP_Extensions.md, kata-get-rules].
"""

import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from katago_mcp.errors import Invalid

Ko = Literal["SIMPLE", "POSITIONAL", "SITUATIONAL"]

AREA_KOMI, BUTTON_KOMI, TERRITORY_KOMI = 7.5, 7.0, 6.5

_NOTATION = re.compile(
    r"ko(?P<ko>SIMPLE|POSITIONAL|SITUATIONAL)score(?P<scoring>AREA|TERRITORY)(?:tax(?P<tax>NONE|SEKI|ALL))?"
    r"(?:sui(?P<suicide>[01]))?(?:button(?P<has_button>[01]))?"
    r"(?:whb(?P<white_handicap_bonus>0|N-1|N))?(?:fpok(?P<friendly_pass_ok>[01]))?"
)


class Rules(BaseModel):
    """The parts of a rule set, with KataGo's keys and defaults (Tromp-Taylor)."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, strict=True
    )

    ko: Annotated[
        Ko,
        Field(
            description="SIMPLE forbids only retaking a ko at once; POSITIONAL forbids repeating any "
            "position, SITUATIONAL only with the same player to move."
        ),
    ] = "POSITIONAL"
    scoring: Annotated[
        Literal["AREA", "TERRITORY"],
        Field(description="AREA counts stones and territory, TERRITORY counts territory and prisoners."),
    ] = "AREA"
    tax: Annotated[
        Literal["NONE", "SEKI", "ALL"] | None,
        Field(
            description="Territory that does not count: SEKI excludes groups in seki, ALL also up to two "
            "points of every living group. Default: SEKI with scoring TERRITORY, else NONE."
        ),
    ] = None
    suicide: Annotated[bool, Field(description="Whether suicide of two or more stones is legal.")] = True
    has_button: Annotated[
        bool, Field(description="Whether the first pass takes the button, worth half a point.")
    ] = False
    white_handicap_bonus: Annotated[
        Literal["0", "N-1", "N"],
        Field(description="Points that White gets for N handicap stones."),
    ] = "0"
    friendly_pass_ok: Annotated[
        bool,
        Field(description="Whether players may pass and agree on dead stones instead of capturing them."),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _default_tax(cls, parts: Any) -> Any:
        if isinstance(parts, dict) and parts.get("tax") is None:
            return parts | {"tax": "SEKI" if parts.get("scoring") == "TERRITORY" else "NONE"}
        return parts

    @property
    def komi(self) -> float:
        """KataGo's default komi for these rules."""
        if self.scoring == "TERRITORY":
            return TERRITORY_KOMI
        return BUTTON_KOMI if self.has_button else AREA_KOMI

    @property
    def name(self) -> str:
        """The first name of these rules, or without a name KataGo's notation (as in SGF's RU)."""
        named = next((name for name, rules in RULES.items() if rules == self), None)
        return named or (
            f"ko{self.ko}score{self.scoring}tax{self.tax}sui{self.suicide:d}"
            + "button1" * self.has_button
            + f"whb{self.white_handicap_bonus}" * (self.white_handicap_bonus != "0")
            + "fpok1" * self.friendly_pass_ok
        )

    def parts(self) -> dict[str, Any]:
        """All parts, as the engine expects them."""
        return self.model_dump(by_alias=True)


_CHINESE = Rules(ko="SIMPLE", suicide=False, white_handicap_bonus="N", friendly_pass_ok=True)
_CHINESE_ONLINE = Rules(suicide=False, white_handicap_bonus="N", friendly_pass_ok=True)
_JAPANESE = Rules(ko="SIMPLE", scoring="TERRITORY", suicide=False)
_AGA = Rules(ko="SITUATIONAL", suicide=False, white_handicap_bonus="N-1", friendly_pass_ok=True)

RULES: dict[str, Rules] = {
    "tromp-taylor": Rules(),
    "chinese": _CHINESE,
    "chinese-ogs": _CHINESE_ONLINE,
    "chinese-kgs": _CHINESE_ONLINE,
    "japanese": _JAPANESE,
    "korean": _JAPANESE,
    "stone-scoring": Rules(ko="SIMPLE", tax="ALL", suicide=False, friendly_pass_ok=True),
    "aga": _AGA,
    "bga": _AGA,
    "new-zealand": Rules(ko="SITUATIONAL", friendly_pass_ok=True),
    "aga-button": Rules(
        ko="SITUATIONAL",
        suicide=False,
        has_button=True,
        white_handicap_bonus="N-1",
        friendly_pass_ok=True,
    ),
}
"""Rule sets by KataGo's names [GTP_Extensions.md, kata-set-rules]."""


def find(rules: str | Rules) -> tuple[str, Rules]:
    """The name that answers use for the rules, and their parts.

    Raises:
        Invalid: with the code `invalid_rules`, for an unknown name.
    """
    if isinstance(rules, Rules):
        return rules.name, rules
    name = rules.strip().lower()
    if name not in RULES:
        raise Invalid(
            "invalid_rules",
            "the rule set is unknown",
            field="position.rules",
            accepted=f"{', '.join(RULES)}, or an object with the parts of one",
        )
    return name, RULES[name]


def read_notation(text: str) -> str | Rules | None:
    """Read KataGo's notation such as `koPOSITIONALscoreAREAtaxNONEsui1`; a name if the rules have one."""
    match = _NOTATION.fullmatch(text.strip())
    if match is None:
        return None
    parts = {key: value == "1" if value in ("0", "1") else value for key, value in match.groupdict().items()}
    if match["white_handicap_bonus"] == "0":
        parts["white_handicap_bonus"] = "0"
    rules = Rules.model_validate({key: value for key, value in parts.items() if value is not None})
    return rules.name if rules.name in RULES else rules


def _validate(value: object) -> object:
    """Validate rules. Errors have the code `invalid_rules`, the field and the accepted values."""
    if isinstance(value, str | Rules):
        return value
    if not isinstance(value, dict):
        raise Invalid(
            "invalid_rules",
            "the rules are neither a name nor an object",
            field="position.rules",
            accepted='a name such as "chinese", or an object such as {"ko": "SIMPLE"}',
        )
    try:
        return Rules.model_validate(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = str(detail["loc"][0])
        parts = {str(field.alias): field.annotation for field in Rules.model_fields.values()}
        if key in parts:
            message = f"the value cannot be {json.dumps(detail['input'])[:24]}"
            accepted = [json.dumps(choice) for choice in _values(parts[key])]
        else:
            key, message, accepted = key[:24], "rules have no such part", list(parts)
        raise Invalid(
            "invalid_rules", message, field=f"position.rules.{key}", accepted=", ".join(accepted)
        ) from error


def _values(annotation: object) -> tuple[object, ...]:
    """The values of a part: those of its Literal, or true and false."""
    if annotation is bool:
        return (True, False)
    literal = next((arm for arm in get_args(annotation) if get_args(arm)), annotation)
    return get_args(literal)


RulesArgument = Annotated[str | Rules, BeforeValidator(_validate)]
"""The name of a rule set, or its parts."""
