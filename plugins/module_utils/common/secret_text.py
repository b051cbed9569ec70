"""Redacts what looks like a secret in text: by keys, by positions, and by shapes.

JSON is parsed, also inside other JSON and after other text. Other text is read line by line: YAML, INI, TOML,
environment files, units, command lines, XML, HTTP headers, Python's repr, logs. A value whose end is not
certain is redacted up to the end of the line. Lines stay lines.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    secret_arguments,
    secret_audit,
    secret_json,
    secret_names,
    secret_prose,
    secret_shapes,
    secret_shell,
)
from ansible_collections.katago.fleet.plugins.module_utils.common.secret_names import (
    MARK,
    is_container,
    is_harmless,
    is_secret_name,
)

_DEEPEST = 6
_ROUNDS = 6
_LOOKAHEAD = 60
# Characters at the end of an unquoted value that more likely belong to the surrounding text.
_CLOSING = "])},;"
_QUOTES = ('"', "'")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_COLOURS = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)")
# With the marks that are letters of other scripts.
_LETTERS = r"\w\u0300-\u036f\u0900-\u0d7f\u0e31-\u0e4e"
_SPACE = r"[ \t\u00a0\u202f\u3000]"
_KEY = re.compile(
    rf"(?<!\w)(?<!\w\$)(?P<key>[^\W\d][{_LETTERS}.-]{{0,63}}(?:\[\w{{0,32}}\])?)(?P<close>[\"'\\\]*]{{0,8}})"
    rf"(?P<separator>{_SPACE}{{0,16}}(?:=>|[?+:]=|\??:(?!:)|::(?=[ \t])|={{1,3}}|\.{{3,80}}|%3[dD]"
    rf"|\\{{1,8}}u003[dD]|&#61;|<-|(?:->|→)(?=[ \t]{{0,16}}\S)|[\uff1a\uff1d]){_SPACE}{{0,64}})"
)
_CALL = re.compile(r"(?<![\w$])(?P<key>[A-Za-z_][\w.]{0,63})\([ \t]{0,8}(?=[^\s)]|$)")
_CALL_VALUE = re.compile(r"(?!self\)|cls\)|this\)|args\))[^\s(),;\"'.=]{4,256}(?=\))")
_LIKELY_VALUE = re.compile(r"[\"']?(?P<value>[^\s,;&\"'<>()]{8,512})")
# What follows the mark of a secret in base64-encoded data.
_END_OF_BASE64 = re.compile(r"\][\w+/-]{1,3}={1,2}\s*")
_PAIR = re.compile(
    r"[bu]?(?P<quote>[\"'])(?P<key>[A-Za-z_][\w.-]{0,63})(?P=quote)\s{0,8},(?:\s|\\n){0,32}(?=[bBuU]?[\"'])"
)
# The first element of a pair whose second one is on the next line.
_FIRST_OF_PAIR = re.compile(
    r"(?P<open>[(\[{]?)\s{0,8}(?:<<)?[bu]?(?P<quote>[\"'])(?P<key>[A-Za-z_][\w.-]{0,63})(?P=quote)(?:>>)?"
    r"\s{0,8},\s{0,8}(?:(?:#|//|%).{0,256})?$"
)
_OPENING = re.compile(r"[(\[{][ \t]*$")
_CLOSING_LINE = re.compile(r"[ \t]*[)\]}]")
# Pairs of Erlang and Elixir, and of Lisp.
_TUPLE = re.compile(
    r"\{\s{0,8}(?:<<)?(?P<quote>[\"']?)(?P<key>[A-Za-z_][\w.-]{0,63})(?P=quote)(?:>>)?\s{0,8},\s{0,8}"
    r"(?:<<)?(?=[\"']|$)"
)
_LISP = re.compile(
    r"\(\s{0,8}(?:(?:def\w{1,16}|setq|setf)\s{1,8}\(?)?[:*]?(?P<key>[A-Za-z_][\w-]{0,63})\*?(?:\s[^()\"]{0,64}\))?"
    r"\s{1,8}(?:\.\s{1,8})?(?=\")"
)
_NEXT_KEY = re.compile(r"[ \t]+[\"']?[A-Za-z_][\w.-]{0,63}=(?!=)")
_NEXT_ENTRY = re.compile(r",\s*[\"']?[A-Za-z_][\w.-]{0,63}[\"']?\s*[:=]")
_QUOTE = re.compile(r"[bBuUrRfF]{0,2}(?P<escape>\\{0,16})(?P<quote>\"\"\"|'''|[\"'`])")
_OBJECT = re.compile(r"\{\s*(?:[\"']?[\w.-]+[\"']?\s*[:=]|\}?\s*,?\s*$|\}\s*[,;)}\]])")
_MAPPING = re.compile(r"[\"']?[A-Za-z_][\w.-]{0,63}[\"']?\s*:(?:\s|$)")
_BLOCK = re.compile(r"[|>][+-]?\d?[+-]?\s*(?:#.*)?$")
# Anchors and tags of YAML, which stand before a value.
_PROPERTIES = re.compile(
    r"(?:[&!][\w!/.:-]{0,64}[ \t]{1,8}){0,3}(?:[&!][\w!/.:-]{0,64}[ \t]*|[|>][+-]?\d?[+-]?\s*)(?:#.*)?$"
)
_ENTRY = re.compile(r"[\"']?(?P<key>[^\W\d][\w.@-]{0,63})[\"']?\s*:\s+(?P<value>[^\s{].*)")
_NUMBERS = re.compile(r"[-\d.,\s\[\]]+")
_SPACED = re.compile(
    r"\b(?:pass|api|access|private|secret|pre-?shared|shared|signing|encryption|master|license|recovery|storage"
    r"|account|deploy|auth|service|integration|routing|connection|seed|webhook|slack|discord|teams)"
    r" (?:key|phrase|string|url)$",
    re.I,
)
_FOR_WHOM = re.compile(
    r"(?P<key>\b(?:password|passphrase|passwd|token|secret|api key))\s(?:for|of|to|is|was|provided|given)"
    r"(?:\s(?:[^\s:=]{1,64}|'[^']{1,128}'))?(?:\s[^\s:=]{1,64})?[:=](?=\s|$)[ \t]*",
    re.I,
)
_ELEMENT = re.compile(
    r"<(?P<tag>[\w.-]{1,64}(?::[\w.-]{1,64})?)(?P<attributes>(?:\s[^<>]{0,512})?)>"
    r"(?P<rest><!\[CDATA\[[^<]*|[^<]*)"
)
_PLIST = re.compile(r"<key>(?P<name>[^<]{1,128})</key>\s{0,16}(?:<\w{1,16}>(?P<value>[^<]{1,8192})|$)")
_ATTRIBUTE = re.compile(r"\b(?:name|key|id|property)\s{0,4}=\s{0,4}[\"'](?P<name>[^\"']{1,128})[\"']", re.I)
_OPEN_ELEMENT = re.compile(r"\s*<(?P<tag>[\w.:-]{1,64})(?:\s[^<>]{0,512})?")
_VALUE_ATTRIBUTE = re.compile(
    r"\b(?:value|val|content|data|text|plain)\s{0,4}=\s{0,4}(?P<quote>[\"'])(?P<value>.{1,1024}?)(?P=quote)",
    re.I,
)
_VALUE_NAMED = re.compile(
    r"\b(?:value|val|content|data)[\"'\\]{0,4}\s{0,4}[:=]\s{0,4}(?P<quote>\\{0,4}[\"'])?(?P<value>[^\"',;\s]{1,512})"
    r"[\"'\\]{0,4}[\s,;]{1,8}[\"'\\]{0,4}(?:name|key|id|field|property|variable)[\"'\\]{0,4}\s{0,4}[:=]"
    r"\s{0,4}[\"'\\]{0,4}(?P<name>[\w.-]{2,64})",
    re.I,
)
_NAME_ALONE = re.compile(
    r"\s*(?:- )?[\"']?(?:name|key|id|field|variable)[\"']?\s*[:=]\s*[\"']?(?P<name>[\w.-]{2,64})[\"']?,?\s*",
    re.I,
)
_NAMED_ON_NEXT_LINE = re.compile(
    r"\s*(?:[\"']?(?:value|val|content|data)[\"']?\s*[:=]\s*[\"']?(?P<value>.+)|<\w{1,16}>(?P<element>[^<]+))",
    re.I,
)
_NAMED_VALUE = re.compile(
    r"\b(?:name|key|id|field|property|variable)[\"'\\]{0,4}\s{0,4}[:=]\s{0,4}[\"'\\]{0,4}(?P<name>[\w.-]{2,64})[\"'\\]{0,4}"
    r"[\s,;]{1,8}[\"'\\]{0,4}(?:value|val|content|data)[\"'\\]{0,4}\s{0,4}[:=]\s{0,4}",
    re.I,
)
_PAM_MODULE = re.compile(r"pam_\w{1,16}\($")
_PROGRAM_OF_JOURNAL = re.compile(r"(?:ch|g)?passwd\[\d{2,}\]")
_LONGEST_PHRASE = 32
_SCHEME = re.compile(r"(?:bearer|basic|negotiate|token|apikey|ntlm|aws4-hmac-sha256)\s+(?=\S)", re.I)
_HEADERS = frozenset(("authorization", "proxyauthorization", "xauthorization"))
_URL_WORD = re.compile(r"[^\s\"'<>]+")
_ENCODED_SEPARATOR = re.compile(r"%(?:25){0,4}(?:3[AaDd]|2[26]|40)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ARCHITECTURE = re.compile(r":(?:all|any|amd64|arm64|armhf|i386|riscv64|native)\b")
_END = re.compile(r"[ \t]*\\?[ \t]*\r?$")
_LIST_END = re.compile(r"[ \t,;)}\]]*\r?$")
_LIST = re.compile(r"[\[({]\s*[\"']")
_MARKS = re.compile(r"(?:\[redacted[^\]\s]*\][\s,;]*)+")
_QUERY_END = re.compile(r"[&\s\"'<>#]|$")
_JOINED_END = re.compile(r"\s(?=\w+=)|$")
_ENCLOSING = re.compile(r"\\*[\"'](?=-{0,2}$)")
_ARGUMENT = re.compile(
    r"(?P<double>\"(?:[^\"\\]|\\.)*\")|(?P<single>'[^']*')|(?P<comma>,(?=\\?[\"']))|(?P<bare>(?:(?!,\\?[\"'])(?:\\.|[^\s\"'\\]))+)|(?P<stray>[\"'\\])",
    re.S,
)
_QUOTED_ARGUMENT = re.compile(r"[\[({]*(?P<quote>\\*[\"'])(?P<inner>.*?)(?P=quote)[\])},;]*", re.S)
# An option at the end of a line, and the argument that stands alone on the next one.
_FLAG_AT_END = re.compile(
    r"(?:^|[\s\"'\[(,])--?(?P<name>[A-Za-z][\w.-]{0,64})(?:[\"'],?|,)?[ \t]*(?:\\[ \t]*)?\r?$"
)
_ARGUMENT_ALONE = re.compile(
    r"[ \t]*(?:- )?(?:(?P<quote>[\"'])(?P<quoted>.*?)(?P=quote)|(?P<bare>[^\s\"'-][^\s\"']*?))"
    r"(?:[\])]{0,4},?|[ \t]*\\)?[ \t]*\r?"
)
_SHORTEST = 3
_LONGEST_CALL = 4096
_MOST_BACKSLASHES = 64
_REPEATED = 80
_LONGEST_LIST = 1 << 14
Change = Callable[[str], str]


def redact(text: str) -> tuple[str, int]:
    """The text without what looks like a secret, and the number of redactions. Keeps the number of lines."""
    total, memory = 0, _Memory({}, set())
    for _ in range(_ROUNDS):
        scan = _Scan(memory)
        text = scan.text(text)
        total += scan.count
        if not scan.count:
            break
    return text, total


@dataclass(frozen=True)
class _Block:
    """The value of a key continues on deeper lines.

    `listed`: also on lines of a list at the same depth. `names`: its keys are names of secrets or settings.
    """

    indent: int
    listed: bool
    literal: bool
    names: bool = False


@dataclass(frozen=True)
class _Until:
    """The value continues up to a line with its closing text. `whole`: the line has nothing else."""

    closing: str
    whole: bool = False

    def at(self, line: str) -> int:
        """Where the closing text is in a line; -1 if it is not there."""
        if self.whole:
            return line.find(self.closing) if line.strip() == self.closing else -1
        return line.find(self.closing)


@dataclass(frozen=True)
class _Next:
    """The value is on the next line.

    `quoted`: only if it is in quotes, because the value before it was. `prompt`: the key may be a prompt.
    `settings`: the key may hold a mapping of settings. `named`: after a key such as `value`.
    `argument`: only if it stands alone, because an option was before it.
    """

    indent: int = 0
    quoted: bool = False
    prompt: bool = False
    settings: bool = False
    named: bool = False
    argument: bool = False


@dataclass(frozen=True)
class _Memory:
    """What was scanned before. `texts`: short texts, which repeat. `clean`: JSON without any secret."""

    texts: dict[str, tuple[str, int]]
    clean: set[str]


class _Scan:
    """One pass over a text. `count`: the redactions so far. `depth`: how many texts it is inside."""

    def __init__(self, memory: _Memory, depth: int = 0) -> None:
        self.count = 0
        self._depth = depth
        self._memory = memory
        self._flow_from = 0
        self._names_until = 0
        self._blocks: list[_Block] = []
        self._pending: _Block | _Until | _Next | None = None
        self._stems: list[str] = []
        self._shapes: Sequence[secret_shapes.Shape] = ()
        self._dialogue: secret_shell.Dialogue | None = None
        self._lines: Sequence[str] = ()
        self._at = 0

    def text(self, text: str) -> str:
        """Redact a text of any number of lines."""
        if "\n" in text.strip() and secret_json.parsed(text) is not None:
            return self._json(text)
        return "\n".join(self.lines(text.split("\n")))

    def lines(self, lines: Sequence[str]) -> list[str]:
        """Redact consecutive lines; a value may continue on the next one."""
        entries = [secret_json.parsed(line) for line in lines]
        messages = self._messages(entries)
        before, self._lines = (self._lines, self._at), lines
        # Most words of the tables are nowhere in the text, so that no line has to be searched for them.
        lowered = secret_names.folded(_COLOURS.sub("", "\n".join(lines)))
        self._stems = [stem for stem in secret_names.STEMS if stem in lowered]
        self._shapes = secret_shapes.applicable(lowered)
        is_script = any(anchor in lowered for anchor in secret_shell.ANCHORS)
        self._dialogue = secret_shell.Dialogue() if is_script else None
        redacted = []
        for index, line in enumerate(lines):
            self._at = index
            if entries[index] is None:
                redacted.append(self._plain(line))
            else:
                self._pending, self._blocks = None, []
                message = messages.get(index)
                changed = message is not None and message != entries[index]["MESSAGE"]
                known = line in self._memory.clean and not changed
                redacted.append(line if known else self._json(line, message))
        (self._lines, self._at), self._pending, self._blocks = before, None, []
        return redacted

    def _messages(self, entries: Sequence[Any]) -> dict[int, str]:
        """The redacted messages of a journal's entries, by line. A value may continue in the next message."""
        if self._depth:
            return {}
        by_process: dict[tuple[Any, Any], list[int]] = {}
        for index, entry in enumerate(entries):
            if isinstance(entry, dict) and isinstance(entry.get("MESSAGE"), str):
                by_process.setdefault((entry.get("_PID"), str(entry.get("SYSLOG_IDENTIFIER"))), []).append(
                    index
                )
        messages = {}
        for indexes in by_process.values():
            parts = [entries[index]["MESSAGE"].split("\n") for index in indexes]
            inner = _Scan(self._memory, self._depth + 1)
            redacted = iter(inner.lines([line for part in parts for line in part]))
            self.count += inner.count
            for index, part in zip(indexes, parts, strict=True):
                messages[index] = "\n".join(next(redacted) for _ in part)
        return messages

    def _inside(self, text: str) -> str:
        """Redact a text inside this one."""
        if self._depth >= _DEEPEST or len(text) < _SHORTEST:
            return text
        if (known := self._memory.texts.get(text)) is None:
            inner = _Scan(self._memory, self._depth + 1)
            known = inner.text(text), inner.count
            if len(text) <= _REPEATED:
                self._memory.texts[text] = known
        self.count += known[1]
        return known[0]

    def _marked(self, value: str) -> str:
        if is_harmless(value):
            return value
        self.count += 1
        return MARK

    # JSON

    def _json(self, text: str, message: str | None = None) -> str:
        """Redact valid JSON without changing how it is written. `message`: replaces its `MESSAGE`."""
        replaced: list[tuple[int, int, str]] = []
        for start, end, literal, context in secret_json.strings(text):
            value = json.loads(literal) if literal[0] == '"' else literal
            if message is not None and context.path == ("MESSAGE",):
                changed = message
            elif context.secret and not (_counts(context.name) and value.isdigit()):
                scheme = _SCHEME.match(value) if _is_header(context.name) else None
                at = scheme.end() if scheme else 0
                changed = value[:at] + self._marked(value[at:])
            elif context.span:
                changed = self._spans(value, [context.span])
            else:
                changed = self._inside(value) if literal[0] == '"' else value
            if changed != value:
                ascii_only = literal.isascii() or bool(_SURROGATE.search(changed))
                replaced.append((start, end, json.dumps(changed, ensure_ascii=ascii_only)))
        if not replaced:
            self._memory.clean.add(text)
        return _replaced(text, replaced)

    # Lines

    def _plain(self, line: str) -> str:
        colourless = _COLOURS.sub("", line) if "\x1b" in line else line
        before = self.count
        redacted = self._continued(colourless)
        return line if redacted == colourless or self.count == before else redacted

    def _continued(self, line: str) -> str:
        indent = len(line) - len(line.lstrip())
        bare = line.strip()
        pending, self._pending = self._pending or self._enclosing(indent, bare), None
        if isinstance(pending, _Until):
            at = pending.at(line)
            if at < 0:
                self._pending = pending
                return line[:indent] + self._marked(bare)
            return line[:indent] + self._marked(line[indent:at]) + self._continued(line[at:])
        if isinstance(pending, _Block):
            return self._in_block(line, indent, bare, pending)
        if isinstance(pending, _Next) and bare:
            return self._next(line, indent, pending)
        if isinstance(pending, _Next):
            self._pending = pending
        return self._line(line)

    def _enclosing(self, indent: int, bare: str) -> _Block | None:
        """The block of names that a line belongs to."""
        while bare and self._blocks and not _belongs(indent, bare, self._blocks[-1]):
            self._blocks.pop()
        return self._blocks[-1] if self._blocks else None

    def _in_block(self, line: str, indent: int, bare: str, block: _Block) -> str:
        if bare and not _belongs(indent, bare, block):
            self._pending = self._enclosing(indent, bare)
            return self._continued(line) if self._pending else self._line(line)
        self._pending = block
        dash = "- " if bare.startswith("- ") and not block.literal else ""
        content = bare.removeprefix(dash)
        if block.literal or not _MAPPING.match(content):
            return line[:indent] + dash + self._marked(content)
        entry = _ENTRY.match(content) if block.names else None
        if entry is None or secret_names.is_setting(entry["key"]) or is_secret_name(entry["key"]):
            return self._line(line)
        if entry["value"].isdigit() or _BLOCK.match(entry["value"]):
            return line
        start = line.index(content) + entry.start("value")
        quoted = entry["value"][0] in _QUOTES and entry["value"][-1] == entry["value"][0]
        start, end = (start + 1, len(line.rstrip()) - 1) if quoted else (start, len(line.rstrip()))
        return line[:start] + self._marked(line[start:end]) + line[end:]

    def _next(self, line: str, indent: int, pending: _Next) -> str:
        if pending.named:
            named = _NAMED_ON_NEXT_LINE.match(line)
            group = "value" if named and named["value"] else "element"
            return self._spans(line, [named.span(group)]) if named else self._line(line)
        if pending.argument:
            alone = _ARGUMENT_ALONE.fullmatch(line)
            redacted = (
                self._spans(line, [alone.span("quoted" if alone["quote"] else "bare")]) if alone else line
            )
            return self._line(redacted)
        quote = _QUOTE.match(line, indent)
        if quote:
            start, end = self._quoted(line, indent, quote)
            value = line[start:end]
            return line[:start] + self._marked(value) + self._line(line[end:])
        word = line[indent:]
        if pending.quoted or (pending.prompt and indent <= pending.indent and len(word.split()) > 1):
            return self._line(line)
        if pending.settings and indent > pending.indent and _MAPPING.match(word):
            return self._line(line)
        return line[:indent] + self._marked(word)

    def _line(self, line: str) -> str:
        if len(line) < _SHORTEST:
            return line
        if pieces := secret_json.embedded(line):
            return self._with_json(line, pieces)
        lowered = secret_names.folded(line)
        if "%" in line:
            line = self._decoded(line)
        if any(anchor in line for anchor in secret_audit.ANCHORS):
            line = self._spans(line, secret_audit.spans(line))
        line = self._spans(line, secret_shapes.spans(line, secret_shapes.applicable(lowered, self._shapes)))
        if self._dialogue:
            line = self._spans(line, self._dialogue.spans(line))
        if not any(stem in lowered for stem in self._stems) and not ("-" in line and " " in line.strip()):
            return line
        if (name := _NAME_ALONE.fullmatch(line)) and is_secret_name(name["name"]):
            self._pending = _Next(named=True)
            return line
        document = secret_shell.document_end(line)
        if "<" in line:
            line = self._elements(line)
        line = self._spans(line, self._before_names(line))
        line = self._spans(line, secret_shell.spans(line))
        line = self._arguments(line)
        line = self._keys(line)
        line = self._spans(line, secret_prose.spans(line))
        if document:
            self._expect_document(document)
        flag = _FLAG_AT_END.search(line) if self._pending is None and "-" in line else None
        if flag and is_secret_name(flag["name"]):
            self._pending = _Next(argument=True)
        return line

    def _with_json(self, line: str, pieces: Sequence[tuple[int, int]]) -> str:
        """Redact a line that has JSON objects at these places."""
        parts, at = [], 0
        for start, end in pieces:
            parts += [self._line(line[at:start]), self._json(line[start:end])]
            self._pending = None
            at = end
        return "".join([*parts, self._line(line[at:])])

    def _spans(self, line: str, spans: Iterable[tuple[int, int]]) -> str:
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return _replaced(line, [(start, end, self._marked(line[start:end])) for start, end in merged])

    def _decoded(self, line: str) -> str:
        """Redact words in which separators are encoded for a URL, such as `password%3DX%26a%3Db`."""

        def decoded(match: re.Match[str]) -> str:
            text = match[0]
            if not _ENCODED_SEPARATOR.search(text) or text.endswith(".deb"):
                return text
            plain = urllib.parse.unquote(text, errors="surrogateescape")
            if plain == text or self._depth >= _DEEPEST:
                return text
            before = self.count
            redacted = self._inside(plain)
            return (
                urllib.parse.quote(redacted, safe="/[]:?=&+,@;~", errors="surrogateescape")
                if self.count > before
                else text
            )

        return _URL_WORD.sub(decoded, line)

    def _elements(self, line: str) -> str:
        """Redact the content of XML elements with secret names or attributes."""
        spans = []
        for match in _ELEMENT.finditer(line):
            attribute = _ATTRIBUTE.search(match["attributes"])
            name = match["tag"].rpartition(":")[2]
            if not (is_secret_name(name) or (attribute and is_secret_name(attribute["name"]))):
                continue
            first = match.start("attributes")
            values = _VALUE_ATTRIBUTE.finditer(match["attributes"])
            spans += [(first + each.start("value"), first + each.end("value")) for each in values]
            if match["attributes"].endswith("/"):
                continue
            if match["rest"].strip():
                spans.append(match.span("rest"))
            if match.end() == len(line):
                self._expect("</")
        for match in _PLIST.finditer(line):
            if is_secret_name(match["name"].replace(" ", "_")):
                if match["value"]:
                    spans.append(match.span("value"))
                else:
                    self._pending = _Next(named=True)
        opened = _OPEN_ELEMENT.fullmatch(line)
        if opened and is_secret_name(opened["tag"].rpartition(":")[2]):
            self._pending = _Next(named=True)
        return self._spans(line, spans)

    def _before_names(self, line: str) -> Iterator[tuple[int, int]]:
        """Where values are before the name that says that they are secrets."""
        for match in _VALUE_NAMED.finditer(line):
            if is_secret_name(match["name"]):
                yield match.span("value")
        following = self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""
        if (value := _NAMED_ON_NEXT_LINE.match(line.lstrip(" -"))) and value["value"]:
            name = _NAME_ALONE.fullmatch(following)
            if name and is_secret_name(name["name"]):
                yield len(line) - len(value["value"]), len(line)

    def _arguments(self, line: str) -> str:
        """Redact command lines, also as lists of quoted arguments."""
        arguments: list[str] = []
        places: list[int] = []
        for start, end in _raw_arguments(line):
            raw = line[start:end]
            quoted = _QUOTED_ARGUMENT.fullmatch(raw)
            arguments.append(quoted["inner"] if quoted else raw)
            places.append(start + (quoted.start("inner") if quoted else 0))
        spans = []
        for index, start, end in secret_arguments.spans(arguments):
            word = arguments[index]
            in_quotes = line[places[index] - 1 : places[index]] in _QUOTES
            # The value of a key, which may have several words.
            is_key = start and word[start - 1] == "=" and not in_quotes and not word.startswith("-")
            if is_key and is_secret_name(word[: start - 1]):
                continue
            # The quotes of `--password='two words'` stay.
            if end - start > 2 and word[start] == word[end - 1] and word[start] in "\"'":
                start, end = start + 1, end - 1
            elif end == len(word):
                end = start + _trimmed_length(word[start:end])
            spans.append((places[index] + start, places[index] + end))
        return self._spans(line, spans)

    def _keys(self, line: str) -> str:
        """Redact the values of keys, from left to right."""
        opened = re.search(r"[{(]", line)
        self._flow_from = opened.start() if opened else len(line)
        self._names_until = 0
        parts, at = [], 0
        patterns = (_KEY, _PAIR, _FIRST_OF_PAIR, _TUPLE, _LISP, _NAMED_VALUE, _FOR_WHOM, _CALL)
        for match in _matches(patterns, line):
            if match.start() < at:
                continue
            if self._names_secret(line, match):
                start, end = self._value(line, match) or (0, 0)
            else:
                start, end = _likely_value(line, match)
            value = line[start:end]
            if is_harmless(value) or is_harmless(value.strip(_CLOSING + "\"'")):
                continue
            if value.isdigit() and (
                match.start() < self._names_until or _counts(match.groupdict().get("key") or "")
            ):
                continue
            parts += [line[at:start], self._marked(value)]
            at = end
        return "".join([*parts, line[at:]])

    def _names_secret(self, line: str, match: re.Match[str]) -> bool:
        if match.re is _FOR_WHOM:
            return True
        if match.re is _CALL:
            return secret_names.names_call(match["key"])
        if match.re is _NAMED_VALUE:
            return is_secret_name(match["name"])
        key = match["key"]
        if match.re in (_PAIR, _TUPLE, _LISP):
            return secret_names.names_next(key)
        if match.re is _FIRST_OF_PAIR:
            return secret_names.names_next(key) and self._is_pair(match)
        before = line[max(0, match.start() - 1) : match.start()]
        if before == "]" and _END_OF_BASE64.fullmatch(line, match.start() - 1, match.end("separator")):
            return False
        if before in ("?", "&") and key.lower() in ("key", "sig", "code", "sas"):
            return True
        if key.startswith("SetCredential") or _ARCHITECTURE.match(line, match.end() - 1):
            return False
        if match["separator"].startswith(":") and (
            _PROGRAM_OF_JOURNAL.fullmatch(key)
            or _PAM_MODULE.search(line, max(0, match.start() - 24), match.start())
        ):
            return False
        if match.start() < self._names_until and not secret_names.is_setting(key):
            return True
        if is_secret_name(key) or not secret_names.ends_phrase(key):
            return is_secret_name(key)
        phrase = line[max(0, match.start() - _LONGEST_PHRASE) : match.end("key")]
        return bool(_SPACED.search(phrase)) or secret_names.is_secret_phrase(phrase)

    def _value(self, line: str, match: re.Match[str]) -> tuple[int, int] | None:
        """The start and the end of the value after a key; None if there is none on this line."""
        start = match.end()
        groups = match.groupdict()
        key = groups.get("key") or groups.get("name") or ""
        if _is_header(key) and (scheme := _SCHEME.match(line, start)):
            start = scheme.end()
        if match.re is _CALL:
            return self._call(line, start)
        if match.re is _KEY:
            before = line[max(0, match.start() - 24) : match.start()]
            if before.endswith(("?", "&")) and (end := _QUERY_END.search(line, start)):
                return start, end.start()
            if before.endswith("-") and (mark := _MARKS.match(line, start)):
                return start, mark.end()
            if not match["close"] and (enclosing := _ENCLOSING.search(before)):
                return start, _closing(line, start, enclosing[0]) or len(line)
        if _END.match(line, start) or _BLOCK.match(line, start):
            self._pending = self._continuation(line, match, key)
            return None
        if line[start] in "&!" and _PROPERTIES.match(line, start):
            if self._is_deeper(line):
                self._pending = self._continuation(line, match, key)
            return start, len(line)
        if quote := _QUOTE.match(line, start):
            return self._quoted(line, start, quote)
        if _OBJECT.match(line, start) and not is_container(key):
            if secret_names.holds_names(key):
                self._names_until = line.find("}", start, start + _LONGEST_LIST)
            return None
        if not _MARKS.match(line, start) and (end_of_list := self._list_end(line, start)):
            return start + 1, end_of_list
        return start, self._bare_end(line, start, groups.get("separator") or "")

    def _call(self, line: str, start: int) -> tuple[int, int] | None:
        """The arguments of a call, without the quotes of a single argument."""
        if start == len(line):
            self._pending = _Next(quoted=True)
            return None
        bare = _CALL_VALUE.match(line, start)
        end = line.find(")", start, start + _LONGEST_CALL)
        quote = _QUOTE.match(line, start)
        if bare or quote is None:
            quoted = end > start and any(each in line[start:end] for each in _QUOTES)
            return bare.span() if bare else (start, end) if quoted else None
        inner, closing = self._quoted(line, start, quote)
        after = closing + len(quote["quote"])
        if line.startswith(",", after) and end > after:
            return inner, end
        return inner, closing

    def _is_pair(self, match: re.Match[str]) -> bool:
        """Whether the first element of a list that continues on the next line has only one more after it.

        A list of names has more, or begins on another line.
        """
        if match["open"]:
            return True
        before = self._lines[self._at - 1] if self._at else ""
        after = self._lines[self._at + 2] if self._at + 2 < len(self._lines) else ""
        alone = not match.string[: match.start()].strip()
        return alone and bool(_OPENING.search(before)) and bool(_CLOSING_LINE.match(after))

    def _is_deeper(self, line: str) -> bool:
        """Whether the next line has a larger indent."""
        following = self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""
        return len(following) - len(following.lstrip()) > len(line) - len(line.lstrip())

    def _continuation(self, line: str, match: re.Match[str], key: str) -> _Block | _Next:
        """What follows a key without a value: a block of deeper lines, a list, or one line."""
        indent = len(line) - len(line.lstrip())
        if _BLOCK.match(line, match.end()):
            return _Block(indent, listed=False, literal=True)
        if match.re in (_FIRST_OF_PAIR, _TUPLE):
            return _Next(indent, quoted=True)
        first = match.start() == len(line) - len(line.lstrip(" \t-\"'"))
        if not (first and match.re is _KEY and match["separator"].strip() == ":"):
            return _Next(indent, settings=secret_names.holds_settings(key))
        following = next((each for each in self._lines[self._at + 1 : self._at + 3] if each.strip()), "")
        listed = following.lstrip().startswith("- ")
        if listed or (len(following) - len(following.lstrip()) > indent and not match["close"]):
            names = secret_names.holds_names(key)
            literal = not secret_names.holds_settings(key) and not listed
            block = _Block(indent, listed=True, literal=literal, names=names)
            if names:
                self._blocks.append(block)
            return block
        return _Next(indent, prompt=not match["close"], settings=secret_names.holds_settings(key))

    def _quoted(self, line: str, start: int, quote: re.Match[str]) -> tuple[int, int]:
        """The span of a value in quotes that begins at `start`, without its quotes."""
        inner, closing = quote.end(), quote["escape"] + quote["quote"]
        end = _closing(line, inner, closing)
        if end is None:
            self._expect(closing)
            return inner, len(line)
        after = end + len(closing)
        if after < len(line) and line[after] not in " \t,;:)]}>&|\\#/" and closing in ("'", '"'):
            # Quoted parts that are joined, as in `'it''s'`.
            joined = _JOINED_END.search(line, after)
            return start, joined.start() if joined else len(line)
        if _END.match(line, after) and len(closing) == 1:
            self._pending = _Next(quoted=True)
        return inner, end

    def _list_end(self, line: str, start: int) -> int | None:
        """The end of a list that begins at `start`, without its bracket; None if there is none."""
        closing = _BRACKETS.get(line[start])
        if closing is None:
            return None
        if _END.match(line, start + 1):
            self._expect(closing)
            return None
        end = line.find(closing, start, start + _LONGEST_LIST)
        if end > start and (_LIST_END.match(line, end + 1) or _NEXT_ENTRY.match(line, end + 1)):
            return end
        if end < 0 and _LIST.match(line, start):
            self._expect(closing)
        return None

    def _bare_end(self, line: str, start: int, separator: str) -> int:
        """The end of an unquoted value: the end of the line, unless another entry certainly follows."""
        end = len(line)
        if separator == "=" and (following := _NEXT_KEY.search(line, start)):
            end = following.start()
        if self._flow_from < start and (entry := _NEXT_ENTRY.search(line, start, end)):
            end = entry.start()
        value = line[start:end].rstrip()
        return start + _trimmed_length(value)

    def _expect_document(self, closing: str) -> None:
        """A here-document continues up to its closing word; without one, for at least one line."""
        following = self._lines[self._at + 1 : self._at + 1 + _LOOKAHEAD]
        ends = any(line.strip() == closing for line in following)
        self._pending = _Until(closing, whole=True) if ends else _Next()

    def _expect(self, closing: str) -> None:
        """The value continues up to `closing`, if that follows soon."""
        following = self._lines[self._at + 1 : self._at + 1 + _LOOKAHEAD]
        if any(closing in line for line in following):
            self._pending = _Until(closing)


def _belongs(indent: int, bare: str, block: _Block) -> bool:
    """Whether a line is in a block: it is deeper, or an item of the block's list."""
    return indent > block.indent or (block.listed and indent == block.indent and bare.startswith("- "))


def _likely_value(line: str, match: re.Match[str]) -> tuple[int, int]:
    """The value of a key that may hold a secret, if it looks like one. An empty span otherwise."""
    if match.re is _KEY and secret_names.is_likely_name(match["key"]):
        value = _LIKELY_VALUE.match(line, match.end())
        if value and secret_names.looks_generated(value["value"]):
            return value.span("value")
    return 0, 0


def _counts(name: str) -> bool:
    """Whether a number under this name is a count, such as the number of tokens."""
    return secret_names.words(name)[-1:] in (["tokens"], ["cookies"], ["secrets"], ["credentials"])


def _trimmed_length(value: str) -> int:
    """The length of an unquoted value without closing characters that follow it."""
    trimmed = value.rstrip(_CLOSING)
    if (mark := trimmed.rfind("[redacted")) >= 0 and not re.search(r"[\]\s]", trimmed[mark:]):
        trimmed += "]"
    return len(trimmed) or len(value)


def _is_header(name: str) -> bool:
    return "".join(secret_names.words(name)) in _HEADERS


def _closing(line: str, start: int, closing: str) -> int | None:
    """Where `closing` ends a quoted text: after as many backslashes as it has, or an even number."""
    bare = closing.lstrip("\\")
    depth = len(closing) - len(bare)
    at = line.find(bare, start)
    while at >= 0:
        before = line[max(start, at - _MOST_BACKSLASHES) : at]
        slashes = len(before) - len(before.rstrip("\\"))
        if slashes == depth or (not depth and slashes % 2 == 0):
            return at - depth
        at = line.find(bare, at + 1)
    return None


def _raw_arguments(line: str) -> Iterator[tuple[int, int]]:
    """The words of a command line with their quotes: start and end."""
    begin = end = -1
    for match in _ARGUMENT.finditer(line):
        if match["comma"]:
            continue
        if match.start() != end:
            if end > 0:
                yield begin, end
            begin = match.start()
        end = match.end()
    if end > 0:
        yield begin, end


def _matches(patterns: Iterable[re.Pattern[str]], line: str) -> list[re.Match[str]]:
    return sorted(
        (match for pattern in patterns for match in pattern.finditer(line)),
        key=lambda match: (match.end(), match.start()),
    )


def _replaced(text: str, replacements: Iterable[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, new in replacements:
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])
