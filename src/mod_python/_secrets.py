"""What is not shown of texts that may hold passwords: by the name of a value, and by what the value looks like.

For pages that mod_python makes of other people's values: the test page, and the report of an error that
``PythonDebug`` sends to the client.  Imported when such a page is made, not before.
"""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "hide", "hide_in", "hide_in_traceback", "is_secret"]

#: What is shown instead.
HIDDEN = "(not shown)"

# Parts of names, in small letters, with "_" for "-", "." and blanks.
_WORDS = (
    *("authorization", "cookie", "password", "passwd", "passphrase", "passcode", "pass_word", "secret", "token"),
    *("credential", "private_key", "privatekey", "api_key", "apikey", "access_key", "accesskey", "session_id"),
    *("sessionid", "db_pass", "dbpass", "user_pass", "smtp_pass", "mail_pass"),
)
# Names, or their last words. PWD and OLDPWD alone are directories.
_ENDS = ("_pwd", "_pw", "_pass", "_key", "_salt", "_jwt", "_psk", "_pin", "_otp", "_sid", "_auth", "_pat")

# Each pattern is bounded, so that a long text of a client does not take long.
_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|(?<![a-z])pwd|secret|token|credentials?|private[-_]?key|api[-_]?key"
    r"|(?:access|account|signing|encryption|master|hmac)[-_]?key|(?<![a-z])pass|(?<![a-z])pw(?![a-z])"
    r"|session[-_]?id|(?<![a-z])pysid)"
)
_QUOTED = (
    r"""(?:b|r|f|u)?(?:"{3}(?:(?!"{3})[^\n]){0,4096}"{3}|'{3}(?:(?!'{3})[^\n]){0,4096}'{3}"""
    r"""|"(?:[^"\\\n]|\\.){0,4096}"|'(?:[^'\\\n]|\\.|''){0,4096}')"""
)
_ASSIGNED = rf"""({_NAME}[\w.-]{{0,64}}(?<!error)(?<!exception)(?<!warning)["'\]]{{0,2}}\s{{0,8}}(?:=>?|:)\s{{0,8}})"""

_URL = re.compile(r"""(://[^\s/?#@:'"<>]{0,256}):[^\s'"<>]{0,1024}@""")
# Only a name before the host: a token, where it is HTTP.
_TOKEN_URL = re.compile(r"""(https?://)[^\s/?#@:'"<>]{1,1024}@""", re.IGNORECASE)
_HEADER = re.compile(
    r"""\b((?:proxy[-_])?authorization|(?:set-)?cookie2?|x[-_][\w-]{0,40}(?:key|token))"""
    r"""(["']?\s{0,8}[:=]\s{0,8})[^\r\n]+""",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\b(bearer\s{1,8})[^\s,;'\"]{4,}"
    # What is no ordinary word.
    r"|\b(basic\s{1,8})(?-i:(?=[A-Za-z0-9+/]{0,512}[0-9A-Z+/=])[A-Za-z0-9+/]{6,}={0,2})",
    re.IGNORECASE,
)
_PAIR = re.compile(_ASSIGNED + rf"(?!{re.escape(HIDDEN)})(?:{_QUOTED}|[^\s&;,'\"]{{1,4096}})", re.IGNORECASE)
_LITERAL = re.compile(_ASSIGNED + _QUOTED, re.IGNORECASE)
_STRING = re.compile(_QUOTED)
# What stands before the lines of an exception in a group.
_OF_GROUP = re.compile(r" {0,200}\| ")
# Tokens that say by their beginning what they are: of GitHub, GitLab, Stripe, Slack.
_TOKEN = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|[rs]k_(?:live|test)_|xox[a-z]-)[\w-]{8,255}")
# Near the beginning of a word only, or each "eyJ-" of a long row of them would be looked at in full.
_JWT = re.compile(r"(?<![\w-])[\w-]{0,64}?\beyJ[\w-]{8,4096}\.[\w-]{8,4096}\.[\w-]{0,4096}")
_PEM = re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[^-]{0,16384}")


def is_secret(name: str) -> bool:
    """Whether the value of this name is not to be shown.

    Args:
        name: name of a header, a variable, an option or a directive.
    """
    lowered = re.sub(r"[-.\s]", "_", name.lower())
    return any(word in lowered for word in _WORDS) or (f"_{lowered}".endswith(_ENDS) and lowered != "pwd")


def hide(name: str, value: str | None) -> str | None:
    """Return a value as it may be shown.

    Args:
        name: its name.
        value: the value; None stays None.
    """
    if value is None:
        return None
    return HIDDEN if is_secret(name) else hide_in(value)


def hide_in(text: str) -> str:
    """Return a text without what looks like passwords and tokens.

    Those are passwords in URLs (``scheme://user:PASSWORD@host``), values behind names such as ``password=``,
    the headers Authorization and Cookie, bearer tokens, JSON web tokens and private keys.

    Args:
        text: any text.
    """
    return _PAIR.sub(_keep_first, _hide_shapes(text))


def hide_in_traceback(text: str) -> str:
    """Return a traceback without what looks like passwords and tokens.

    In lines of source, a value behind ``password=`` is hidden if it is written out, and not if it is an
    expression.

    Args:
        text: the traceback.
    """
    lines = []
    for line in _PEM.sub(rf"\1{HIDDEN}", text).split("\n"):
        found = _OF_GROUP.match(line)
        margin = found[0] if found else ""
        line = line[len(margin) :]
        lines.append(margin + (_hide_in_source(line) if line.startswith("    ") else hide_in(line)))
    return "\n".join(lines)


def _hide_in_source(line: str) -> str:
    line = _LITERAL.sub(_keep_first, _hide_shapes(line, headers=False))
    return _STRING.sub(lambda match: _PAIR.sub(_keep_first, match[0]), line)


def _hide_shapes(text: str, headers: bool = True) -> str:
    text = _URL.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN_URL.sub(rf"\1{HIDDEN}@", text)
    text = _PEM.sub(rf"\1{HIDDEN}", text)
    text = _JWT.sub(HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, text)
    text = _SCHEME.sub(_keep_first, text)
    if headers:
        text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    return text


def _keep_first(match: re.Match[str]) -> str:
    return f"{next(group for group in match.groups() if group is not None)}{HIDDEN}"
