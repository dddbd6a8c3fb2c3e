"""Takes out of plain data what tells of the machine and the people of a training: places, users, hosts, secrets."""

import re
from collections.abc import Iterator, Mapping, Sequence

from ..hub.reports import Json

HIDDEN = "…"

# Keys of values that are hidden whole, without regard to case, dashes and underscores.
_PRIVATE_KEYS = {
    *("user", "username", "logname", "login", "email", "mail", "home", "homedir", "userprofile", "userid"),
    *("host", "hosts", "hostname", "hostnames", "nodename", "node", "nodes", "nodelist", "machine", "machinename"),
    *("computername", "pwd", "oldpwd", "cwd", "ip", "ipaddress", "masteraddr", "masteraddress", "sshclient"),
    *("sshconnection", "slurmdnodename", "slurmnodelist", "slurmjobnodelist", "slurmjobuser", "slurmsubmithost"),
}
_HOST_KEY = re.compile(r"host|node|machine|computer|addr", re.IGNORECASE)
_SECRET_KEY = re.compile(r"(token|secret|passw(or)?d|api_?key|credential)s?$", re.IGNORECASE)
# Names of users that are everyone's, or words that a text may hold for another reason.
_COMMON = {
    *("root", "user", "users", "admin", "ubuntu", "home", "work", "data", "jovyan", "default", "none", "null", "test"),
    *("train", "model", "models", "localhost", "local", "public", "shared", "guest", "self", "true", "false", "runner"),
}

_HOMES = r"(?:home|Users|Utilisateurs|Benutzer)"
_USER = re.compile(rf"(?:/{_HOMES}/|[A-Za-z]:[\\/]+Users[\\/]+|~(?=\w))([^/\\\s'\",;:]+)")
_AT_HOST = re.compile(r"(?<![\w.+-])([\w.+-]+)@([\w-]+(?:\.[\w-]+)*)")
_FILE_URL = re.compile(r"\bfile:/+[^\s'\"<>]*")
_ADDRESS = re.compile(r"\b(tcp|ssh|sftp|smb|nfs|env|gloo|nccl|grpc|redis|mongodb)://(?:[^\s/'\"@]*@)?[\w.\-\[\]:]+")
_IP = re.compile(r"(?<![\d.])(?!127\.0\.0\.1)\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\d.])")
_WINDOWS = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]:[\\/]+|\\\\[\w.$-]+\\)[^\s'\"<>|*?;,]*")
_POSIX = re.compile(rf"(?<![\w.~/{HIDDEN}>-])/(?=[^/\s'\"<>])[^\s'\"<>;,:()\[\]{{}}|]*")
_HOME_OF = re.compile(r"(?<![\w/])~\w[^\s'\"<>;,:]*")
# A text that is one path may hold spaces; a list of paths and a command line hold more than spaces.
_SEVERAL = re.compile(r"^//|\n|\s[/\-~]|[,;:|]\s|[^A-Za-z]:[/\\]|\w\w:[/\\]")
_WHOLE = re.compile(r"/[^/\s].*|~\w.*|[A-Za-z]:[\\/].+|\\\\[^\\]+\\.+", re.DOTALL)


def redacted(value: Json) -> Json:
    """Plain data without absolute paths, and without the names of users and hosts.

    A path keeps its last part: `/home/anna/data/x.png` becomes `…/x.png`, also within a longer text. Names of users and
    hosts that a path or a key tells are taken out wherever they stand.
    """
    names = {name for name in _names(value) if len(name) > 2 and name.lower() not in _COMMON}
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    word = re.compile(rf"(?<![^\W_])(?:{'|'.join(longest_first)})(?![^\W_])") if names else None
    return _redacted(value, word)


def _redacted(value: Json, names: re.Pattern[str] | None) -> Json:
    if isinstance(value, str):
        return _text(value, names)
    if isinstance(value, Mapping):
        result: dict[str, Json] = {}
        for key, item in value.items():
            shown = _text(key, names) if key != "__class__" else key
            while shown in result:
                shown += "'"
            result[shown] = _hidden(item) if _is_private(key) else _redacted(item, names)
        return result
    return [_redacted(item, names) for item in value] if isinstance(value, Sequence) else value


def _text(text: str, names: re.Pattern[str] | None) -> str:
    if _WHOLE.fullmatch(text) and not _SEVERAL.search(text):
        text = _last_part(text)
    else:
        text = _FILE_URL.sub(lambda match: _last_part(match[0][5:]), text)
        text = _AT_HOST.sub(HIDDEN, text)
        text = _ADDRESS.sub(lambda match: f"{match[1]}://{HIDDEN}", text)
        text = _WINDOWS.sub(lambda match: _last_part(match[0]), text)
        text = _HOME_OF.sub(lambda match: _last_part(match[0]), text)
        text = _POSIX.sub(lambda match: _last_part(match[0]), text)
    text = _IP.sub(HIDDEN, text)
    return names.sub(HIDDEN, text) if names else text


def _last_part(path: str) -> str:
    """A path without its place; without anything, where the last part is a user."""
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    if len(parts) < 1 or re.fullmatch(r"~\w.*|[A-Za-z]:", parts[-1]):
        return HIDDEN
    if len(parts) > 1 and re.fullmatch(_HOMES, parts[-2]):
        return HIDDEN
    return f"{HIDDEN}/{parts[-1]}"


def _names(value: Json, key: str = "") -> Iterator[str]:
    """Names of users and hosts that paths, addresses and keys tell."""
    if isinstance(value, str):
        if _is_private(key) and re.fullmatch(r"[\w.-]+", value):
            yield value
            if _HOST_KEY.search(key):  # a host is called by its first name, too
                yield value.partition(".")[0]
        yield from (match[1] for match in _USER.finditer(value))
        for match in _AT_HOST.finditer(value):
            yield from match.groups()
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _names(name)
            yield from _names(item, name)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _names(item, key)


def _is_private(key: str) -> bool:
    return re.sub(r"[\W_]", "", key).lower() in _PRIVATE_KEYS or bool(_SECRET_KEY.search(key))


def _hidden(value: Json) -> Json:
    """A private value: numbers and truth values stay, for they name nobody."""
    if isinstance(value, str):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _hidden(item) if key != "__class__" else item for key, item in value.items()}
    return [_hidden(item) for item in value] if isinstance(value, Sequence) else value
