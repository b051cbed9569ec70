"""Rules of a game: KataGo's rule sets by name, and their parts.

Queries always contain the parts, never a name. So the same rules give the same query under any name
[GTP_Extensions.md, kata-get-rules].
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from katago_mcp.errors import Invalid

Ko = Literal["SIMPLE", "POSITIONAL", "SITUATIONAL"]

AREA_KOMI, BUTTON_KOMI, TERRITORY_KOMI = 7.5, 7.0, 6.5

_PARTS = (
    ("ko", ("ko", "korule"), "SIMPLE|POSITIONAL|SITUATIONAL"),
    ("scoring", ("score", "scoring", "scoringrule"), "AREA|TERRITORY"),
    ("tax", ("tax", "taxrule"), "NONE|SEKI|ALL"),
    ("suicide", ("sui", "suicide", "multistonesuicidelegal"), "[01]"),
    ("has_button", ("button", "hasbutton"), "[01]"),
    ("white_handicap_bonus", ("whb", "whitehandicapbonus"), "0|N-1|N"),
    ("friendly_pass_ok", ("fpok", "friendlypassok"), "[01]"),
)
"""A part, its names in KataGo's notation, objects and configuration, and the values of the notation."""

_NAMED_PARTS = {name: part for part, names, _ in _PARTS for name in names}
_PART = re.compile(
    "|".join(f"(?:{'|'.join(names)})(?P<{part}>{values})" for part, names, values in _PARTS), re.I
)
_NOTATION = re.compile(f"(?:{re.sub('[?]P<[a-z_]*>', '?:', _PART.pattern)}){{1,7}}", re.I)
_BETWEEN_PARTS = re.compile(r"[\s,;:=]+")
_KOMI_PART = re.compile(r"komi[\s:=]*-?\d+(?:\.\d+)?", re.I)


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
    "ancient-territory": Rules(ko="SIMPLE", scoring="TERRITORY", tax="ALL", suicide=False),
    "aga": _AGA,
    "bga": _AGA,
    "french": _AGA,
    "new-zealand": Rules(ko="SITUATIONAL", friendly_pass_ok=True),
    "ing": Rules(friendly_pass_ok=True),
    "aga-button": Rules(
        ko="SITUATIONAL",
        suicide=False,
        has_button=True,
        white_handicap_bonus="N-1",
        friendly_pass_ok=True,
    ),
}
"""Rule sets by KataGo's names [GTP_Extensions.md, kata-set-rules]."""


_OTHER_NAMES = {
    "ancientarea": "stone-scoring",
    "goe": "ing",
    "newzealand": "new-zealand",
    "nz": "new-zealand",
}
_NAMES = {name.replace("-", ""): name for name in RULES} | _OTHER_NAMES
"""Names that the engine accepts too, without hyphens, underscores and spaces."""

_WORDS = (
    ("ancient-territory", r"ancient ?territory"),
    ("stone-scoring", r"stone ?scoring|ancient|古代|古棋"),
    ("tromp-taylor", r"tromp|taylor|tt|logical"),
    ("chinese-ogs", r"ogs|online ?go"),
    ("chinese-kgs", r"kgs"),
    ("new-zealand", r"nz|nzl|new ?zealand[^\W\d_]*"),
    ("aga-button", r"aga ?button|button ?go"),
    ("aga", r"aga|american?[^\W\d_]*|u\.?s\.?a?"),
    ("bga", r"bga|british|u\.?k"),
    ("french", r"ffg|french|fran[cç][^\W\d_]*"),
    ("ing", r"ing|ing'?s|goe|sst|应氏|應氏|応氏|计点制|計點制|응씨"),
    (
        "chinese",
        r"cn|chn|prc|zh|chin[^\W\d_]*|cines[^\W\d_]*|kines[^\W\d_]*|кита[^\W\d_]*|中国|中國|数子|數子|중국",
    ),
    (
        "japanese",
        r"jp|jpn|jap|japan[^\W\d_]*|japon[^\W\d_]*|giappon[^\W\d_]*|nihon[^\W\d_]*|япон[^\W\d_]*|日本|일본",
    ),
    (
        "korean",
        r"kr|kor|korea[^\W\d_]*|cor[eé][^\W\d_]*|coreen[^\W\d_]*|коре[^\W\d_]*|韩国|韓国|韓國|한국|대한",
    ),
)
"""What other programs and people call a rule set: whole words, or East Asian names anywhere."""

_NAMED = tuple(
    (name, re.compile(rf"(?<![^\W\d_])(?:{words})(?![^\W\d_])" if ascii_ else words))
    for name, pattern in _WORDS
    for ascii_, words in (
        (True, "|".join(word for word in pattern.split("|") if word < "\u2e80")),
        (False, "|".join(word for word in pattern.split("|") if word >= "\u2e80")),
    )
    if words
)
_PLAIN_WORDS = re.compile(
    r"rules?|rule ?set|association|go|of|the|go ?association|规则|規則|ルール|룰|围棋|圍棋|囲碁|바둑|棋院|"
    r"[\W_]+"
)
_FALLBACKS = (
    ("japanese", re.compile(r"\b(?:territory|igs|pandanet)\b")),
    ("korean", re.compile(r"\b(?:tygem|cyberoro)\b|타이젬")),
    ("chinese", re.compile(r"\b(?:area|fox|foxwq|wmsg)\b|野狐")),
)
"""What a text without a rule set says about it: the scoring, or a server or an event with its own rules."""


@dataclass(frozen=True)
class Reading:
    """Rules as read from text: a name or parts. `certain` is false if the text says more."""

    rules: "str | Rules"
    certain: bool


def find(rules: str | Rules) -> tuple[str, Rules]:
    """The name that answers use for the rules, and their parts.

    Names are those of the engine in any spelling; its notation is accepted too.

    Raises:
        Invalid: with the code `invalid_rules`, for an unknown name.
    """
    if isinstance(rules, Rules):
        return rules.name, rules
    read = _read_exactly(rules)
    if read is None:
        raise Invalid(
            "invalid_rules",
            "the rule set is unknown",
            field="position.rules",
            accepted=f"{', '.join(RULES)}, or an object with the parts of one",
        )
    return (read.name, read) if isinstance(read, Rules) else (read, RULES[read])


def _read_exactly(text: str) -> str | Rules | None:
    """The rules of a name or a notation that the engine accepts; None for other text."""
    name = re.sub(r"[\s_-]+", "", text.lower())
    return _NAMES.get(name) or read_notation(text)


def read_rules(text: str) -> Reading | None:
    """Read the rules of a record (SGF, RU) as programs and people write them; None if they are unknown.

    Versions and remarks are ignored: "Japanese rules (1989)", "AGA 1991", "Chinese, area".
    """
    text = unicodedata.normalize("NFKC", text).strip()
    exact = _read_exactly(text) or read_notation(_KOMI_PART.sub("", text)) or _read_object(text)
    if exact is not None:
        return Reading(exact, certain=True)
    lowered = " ".join(re.sub(r"[-_/]+", " ", text.lower()).split())
    rest, names = lowered, []
    for name, words in _NAMED:
        rest, count = words.subn(" ", rest)
        names += [name] * bool(count)
    if not names:
        names = [name for name, words in _FALLBACKS if words.search(lowered)]
        return Reading(names[0], certain=False) if len(names) == 1 else None
    servers = [name for name in names if name in ("chinese-ogs", "chinese-kgs")]
    sets = [name for name in names if name not in servers]
    if sets == ["stone-scoring", "chinese"]:
        sets.pop()
    if len({RULES[name] for name in sets}) != 1:
        return None
    name = servers[0] if servers and sets == ["chinese"] else sets[0]
    return Reading(name, certain=not _PLAIN_WORDS.sub("", rest))


def read_notation(text: str) -> str | Rules | None:
    """Read KataGo's notation such as `koPOSITIONALscoreAREAtaxNONEsui1`; a name if the rules have one.

    Case does not matter, and parts may be separated.
    """
    text = _BETWEEN_PARTS.sub("", text)
    if _NOTATION.fullmatch(text) is None:
        return None
    texts = {
        part: match[part].upper()
        for match in _PART.finditer(text)
        for part in Rules.model_fields
        if match[part]
    }
    flags = {
        part: texts[part] == "1" for part in ("suicide", "has_button", "friendly_pass_ok") if part in texts
    }
    return _named(Rules.model_validate(texts | flags))


def _read_object(text: str) -> str | Rules | None:
    """Read rules that are written as a JSON object, as in the engine's queries."""
    if not isinstance(parts := _parsed(text), dict):
        return None
    parts.pop("komi", None)
    try:
        return _named(Rules.model_validate(_documented(parts)))
    except ValidationError:
        return None


def _parsed(text: str) -> object:
    """The object of JSON in a text; any other text as it is."""
    try:
        return json.loads(text) if text.lstrip().startswith("{") else text
    except (ValueError, RecursionError):
        return text


def _documented(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of rules under their documented keys and values, if only the spelling differs."""
    result: dict[str, Any] = {}
    for key, value in parts.items():
        part = _NAMED_PARTS.get(re.sub(r"[\s_-]", "", key).lower())
        field = Rules.model_fields[part] if part else None
        if field is not None and isinstance(value, str) and field.annotation is not bool:
            value = value.strip().upper()
        alias = str(field.alias) if field else key
        result[key if alias in parts or alias in result else alias] = value
    return result


def _named(rules: Rules) -> str | Rules:
    return rules.name if rules.name in RULES else rules


def _validate(value: object) -> object:
    """Validate rules. Errors have the code `invalid_rules`, the field and the accepted values."""
    if isinstance(value, str):
        value = _parsed(value)
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
        return Rules.model_validate(_documented(value))
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
