"""What was found of package indexes so far, taken apart: addresses for the box, credentials for outside of it."""

from __future__ import annotations

import base64
import netrc
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

_MOST_BYTES = 1 << 20
_NO_CERTIFICATE = "a client certificate stays outside, and the proxy presents none"
_NO_AUTHORITY = "the certificates of this machine do not reach the box"
_CHECKED = "certificates are checked all the same"
_NO_PROXY = "commands in the box have only our own proxy, which asks no other"
UNUSABLE = {
    "find-links": "folders and pages of files are not read in the box",
    "no-index": "the indexes are used all the same",
    "client-cert": _NO_CERTIFICATE,
    "ssl-client-cert": _NO_CERTIFICATE,
    "certfile": _NO_CERTIFICATE,
    "key": _NO_CERTIFICATE,
    "cert": _NO_AUTHORITY,
    "cafile": _NO_AUTHORITY,
    "ca": _NO_AUTHORITY,
    "ssl-cert-file": _NO_AUTHORITY,
    "trusted-host": _CHECKED,
    "allow-insecure-host": _CHECKED,
    "insecure-host": _CHECKED,
    "strict-ssl": _CHECKED,
    "proxy": _NO_PROXY,
    "http-proxy": _NO_PROXY,
    "https-proxy": _NO_PROXY,
    "all-proxy": _NO_PROXY,
    "keyring-provider": "no keyring is asked",
}
"""Options that no command in the box can follow: why."""

# pip sends an index's credentials to all of its host. We do not: GitLab's API, say, is on the same one. These hosts
# serve packages only, and the files of a feed do not lie below its index.
_PACKAGES_ONLY = re.compile(r"https://(?:pkgs\.dev\.azure\.com/[^/]+/|[^./]+\.pkgs\.visualstudio\.com/)")

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Whose last part is a number is an address.
_HOST = re.compile(rf"(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\Z){_LABEL}")


def place_of(url: str) -> tuple[str, str] | None:
    """Scheme with host, and path; None for what the proxy would not take: hosts have names, and paths are plain."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or port == 0 or len(host) > 253 or not _HOST.fullmatch(host):
        return None
    # A password with an unescaped slash looks like a path with an @: nothing of it may get in.
    if re.search(r"[?#]", url) or not re.fullmatch(r"[\w/.~!$&'()*+,:=-]*", parts.path, re.ASCII):
        return None
    if any(part in (".", "..") for part in parts.path.split("/")):
        return None
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else ""), parts.path


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(errors="replace")).decode()


@dataclass(repr=False)
class Survey:
    """`repr` is off: everything in here may hold a secret."""

    env: Mapping[str, str]
    home: Path
    system: Path
    ignored: list[str] = field(default_factory=list)
    urls: dict[str, None] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    _bare: dict[str, str] = field(default_factory=dict)
    """Python's indexes that come without a password, each with the user that it names."""

    def config_folders(self) -> list[Path]:
        chosen = [Path(name) for name in self.env.get("XDG_CONFIG_DIRS", "").split(":") if name]
        return chosen or [self.system / "xdg"]

    def config_home(self) -> Path:
        return Path(self.env.get("XDG_CONFIG_HOME") or self.home / ".config")

    def text(self, path: Path) -> str:
        """Empty when there is no such file."""
        try:
            if not path.is_file():  # a pipe would keep us waiting
                return ""
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except (OSError, ValueError):
            self.ignored.append(f"{path}: cannot be read.")
            return ""
        if len(data) > _MOST_BYTES:
            self.ignored.append(f"{path}: too large to be a configuration.")
            return ""
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            self.broken(path, data[: exc.start].count(b"\n") + 1)
            return ""

    def broken(self, path: Path, line: int | None) -> None:
        self.ignored.append(f"{path}, line {line or 1}: not understood, so nothing of this file is used.")

    def unusable(self, source: str, option: str) -> None:
        self.ignored.append(f"{source}: {UNUSABLE[option]}.")

    def index(self, source: str, raw: str, login: tuple[str, str] | None = None) -> str:
        """Note an index of Python's. Returns it without credentials; empty when it is of no use in the box."""
        taken = self._take(source, raw)
        if taken is None:
            return ""
        url, user, password = taken
        if login is None and password is not None:
            login = user, password
        if login is None:
            self._bare.setdefault(url, user)
        else:
            self.credential(source, _root(url), basic(*login))
        return url

    def registry(self, source: str, raw: str) -> str:
        """Note one of npm's, likewise."""
        taken = self._take(source, raw)
        if taken is None:
            return ""
        url, user, password = taken
        if user or password:
            self.credential(source, url.rstrip("/") + "/", basic(user, password or ""))
        return url

    def credential(self, source: str, prefix: str, header: str) -> None:
        if self.credentials.setdefault(prefix, header) != header:
            self.ignored.append(f"{source}: other credentials are in use for the same address.")

    def ask_netrc(self) -> None:
        """Python's indexes without a password get the one that .netrc has for their host."""
        path = Path(self.env.get("NETRC") or self.home / ".netrc")
        known = self._netrc(path) if self._bare else None
        for url, user in self._bare.items():
            if _root(url) in self.credentials:
                continue
            entry = known.authenticators(urlsplit(url).hostname or "") if known else None
            if entry and (not user or user == entry[0]):
                self.credential(str(path), _root(url), basic(entry[0], entry[2] or ""))
            elif user:
                # A token that stands where the user's name would.
                self.credential("an index", _root(url), basic(user, ""))

    def _netrc(self, path: Path) -> netrc.netrc | None:
        if not self.text(path):
            return None
        try:
            return netrc.netrc(str(path))
        except netrc.NetrcParseError as exc:
            self.broken(path, exc.lineno)
        except (OSError, ValueError):
            self.ignored.append(f"{path}: cannot be read.")
        return None

    def _take(self, source: str, raw: str) -> tuple[str, str, str | None] | None:
        place = place_of(raw) if re.fullmatch(r"https?://[!-~]+", raw, re.IGNORECASE) else None
        if place is None:
            self.ignored.append(
                f"{source}: not an address such as https://host/simple, so it cannot be used in the box."
            )
            return None
        user, colon, password = urlsplit(raw).netloc.rpartition("@")[0].partition(":")
        url = "".join(place)
        self.urls[url] = None
        return url, unquote(user), unquote(password) if colon else None


def _root(url: str) -> str:
    """What an index's credentials are for: its own folder, where most servers keep the files beside `simple/`."""
    whole = _PACKAGES_ONLY.match(url)
    if whole:
        return whole[0]
    return re.sub(r"/\+?simple$", "", url.rstrip("/")) + "/"
