"""How the checkpoint saver turns values into bytes and back: no Redis in here.

A value is stored in one of three ways: inside the frame when it is small, as an object by the hash of its content, or,
a list of some size, as digests of its items, so that each item is stored once however often the list grows.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

K = TypeVar("K")
V = TypeVar("V")

WIDTH = 16
"""Bytes of a digest. BLAKE2b, because an enemy may write what is stored, and would like two values to collide."""

INLINE = 64
"""A value of up to so many bytes goes into the frame itself."""

LISTED = 256
"""A list whose items have fewer bytes in all is stored like any other value."""


def serializer(types: Iterable[type]) -> JsonPlusSerializer:
    """A serializer that makes instances of `types`, langchain's messages and plain library types, and of no other.

    A value of another class comes back as the dict of its fields; its class is never imported or called.
    """
    return JsonPlusSerializer(allowed_msgpack_modules=[(kind.__module__, kind.__name__) for kind in types])


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was used longest ago when it has more than `limit` entries."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def find(self, key: K) -> V | None:
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > self.limit:
            self.popitem(last=False)


@dataclass(frozen=True)
class Packed:
    """A value as it is stored under its digest."""

    digest: bytes
    data: bytes
    size: int
    """Bytes of the value as serialised, before compression."""


@dataclass(frozen=True)
class Stored:
    """Where a channel's value is. Exactly one is set: `inline` (type and bytes), `digest`, or `log` with `items`."""

    inline: tuple[str, bytes] | None = None
    digest: bytes = b""
    log: bytes = b""
    items: bytes = b""
    """The list's digests, joined."""


def compress(data: bytes) -> bytes:
    """With a first byte that tells whether it was worth it."""
    if len(data) >= 128:
        smaller = zlib.compress(data, 6)
        if len(smaller) < len(data) * 0.9:
            return b"z" + smaller
    return b"r" + data


def expand(data: bytes) -> bytes:
    return zlib.decompress(data[1:]) if data[:1] == b"z" else data[1:]


def split(joined: bytes) -> Iterator[bytes]:
    for at in range(0, len(joined), WIDTH):
        yield joined[at : at + WIDTH]


class Codec:
    """Serialises values, and remembers what unchanged messages were serialised to.

    That memory goes by identity: a message that is changed in place after it was stored, other than by a new `id` or
    new `content`, is not noticed. Our nodes never do that; `add_messages` replaces messages, but gives ids in place.
    """

    def __init__(self, serde: SerializerProtocol, *, limit: int = 4096) -> None:
        self.serde = serde
        self._items: Bounded[int, tuple[Any, object, object, bytes, int]] = Bounded(limit)

    def pack(self, value: Any) -> Packed:
        kind, data = self.serde.dumps_typed(value)
        return self.packed(kind, data)

    def packed(self, kind: str, data: bytes) -> Packed:
        raw = kind.encode() + b"\0" + data
        return Packed(hashlib.blake2b(raw, digest_size=WIDTH).digest(), compress(raw), len(data))

    def unpack(self, data: bytes) -> Any:
        kind, _, rest = expand(data).partition(b"\0")
        return self.serde.loads_typed((kind.decode(), rest))

    def unpack_item(self, digest: bytes, data: bytes) -> Any:
        kind, _, rest = expand(data).partition(b"\0")
        item = self.serde.loads_typed((kind.decode(), rest))
        self.remember(item, digest, len(rest))
        return item

    def remember(self, item: Any, digest: bytes, size: int) -> None:
        if isinstance(item, BaseMessage):
            self._items.keep(id(item), (item, item.id, item.content, digest, size))
        elif isinstance(item, BaseModel) and item.model_config.get("frozen"):
            self._items.keep(id(item), (item, None, None, digest, size))

    def remembered(self, item: Any) -> tuple[bytes, int] | None:
        """Digest and size of an item that is known and unchanged."""
        found = self._items.find(id(item))
        if found is None or found[0] is not item:
            return None
        if isinstance(item, BaseMessage) and (item.id != found[1] or item.content is not found[2]):
            return None
        return found[3], found[4]


@dataclass
class Batch:
    """What one operation sends along: the objects that Redis may not have yet."""

    codec: Codec
    known: Bounded[tuple[str, bytes], bool]
    """What this process believes to be stored, as (thread, digest)."""
    thread: str
    fresh: bool = False
    """Believe nothing; send everything."""
    objects: dict[bytes, bytes] = field(default_factory=dict)

    def value(self, value: Any) -> Stored:
        """Anything but what `items` takes."""
        kind, data = self.codec.serde.dumps_typed(value)
        if len(data) <= INLINE:
            return Stored(inline=(kind, data))
        packed = self.codec.packed(kind, data)
        self._send(packed)
        return Stored(digest=packed.digest)

    def items(self, value: Any) -> bytes | None:
        """The joined digests of a list's items; None for what is not a list, or is a short one."""
        if type(value) is not list or not value:
            return None
        found = [self._item(item) for item in value]
        if sum(size for _, size, _ in found) < LISTED:
            return None
        for _, _, packed in found:
            self._send(packed)
        return b"".join(digest for digest, _, _ in found)

    def _item(self, item: Any) -> tuple[bytes, int, Packed | None]:
        if (found := self.codec.remembered(item)) and self._believed(found[0]):
            return (*found, None)
        packed = self.codec.pack(item)
        self.codec.remember(item, packed.digest, packed.size)
        return packed.digest, packed.size, packed

    def _believed(self, digest: bytes) -> bool:
        return not self.fresh and self.known.find((self.thread, digest)) is True

    def _send(self, packed: Packed | None) -> None:
        if packed is not None and not self._believed(packed.digest):
            self.objects[packed.digest] = packed.data

    def arguments(self) -> list[bytes | str | int]:
        """As the scripts take them: how many, then digest and bytes of each."""
        return [len(self.objects), *(part for pair in self.objects.items() for part in pair)]

    def landed(self) -> None:
        """Redis has taken it."""
        for digest in self.objects:
            self.known.keep((self.thread, digest), True)


class FrameWriter:
    """Builds a frame: what it needs first, then the body (see `checkpoint_scripts`)."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._logs: list[tuple[bytes, int]] = []

    def ref(self, stored: Stored) -> list[Any]:
        """How the body names a stored value."""
        if stored.inline is not None:
            return ["v", *stored.inline]
        if stored.log:
            self._logs.append((stored.log, len(stored.items) // WIDTH))
            return ["l", len(self._logs) - 1]
        if stored.items:
            first = len(self._digests)
            self._digests.extend(split(stored.items))
            return ["d", first, len(self._digests) - first]
        self._digests.append(stored.digest)
        return ["o", len(self._digests) - 1]

    def finish(self, body: bytes) -> bytes:
        head = struct.pack(">II", len(self._digests), len(self._logs))
        logs = b"".join(log + struct.pack(">I", length) for log, length in self._logs)
        return head + b"".join(self._digests) + logs + body


class FrameReader:
    def __init__(self, frame: bytes) -> None:
        digests, logs = struct.unpack_from(">II", frame)
        at = 8 + digests * WIDTH
        self.digests = list(split(frame[8:at]))
        self.logs = [struct.unpack_from(">8sI", frame, at + 12 * n) for n in range(logs)]
        self.body = frame[at + 12 * logs :]

    def stored(self, ref: Sequence[Any], logs: Sequence[bytes] = ()) -> Stored:
        """`logs`: the joined digests of each of the frame's lists."""
        kind = ref[0]
        if kind == "v":
            return Stored(inline=(ref[1], ref[2]))
        if kind == "l":
            return Stored(log=self.logs[ref[1]][0], items=logs[ref[1]])
        if kind == "d":
            return Stored(items=b"".join(self.digests[ref[1] : ref[1] + ref[2]]))
        return Stored(digest=self.digests[ref[1]])


def frames(joined: bytes) -> Iterator[bytes]:
    """Those of a checkpoint's pending writes, in the order they came."""
    at = 0
    while at < len(joined):
        (length,) = struct.unpack_from(">I", joined, at)
        yield joined[at + 4 : at + 4 + length]
        at += 4 + length
