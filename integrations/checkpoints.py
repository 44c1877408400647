"""LangGraph's checkpoints on plain Redis or Valkey, no modules: what grows is stored once, and every write is fenced.

The layout in Redis is described in `checkpoint_scripts`. One round trip for put, put_writes and get_tuple each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from graph.errors import LeaseLost, StoreDamaged, StoreUnavailable
from integrations import checkpoint_scripts as scripts
from integrations.checkpoint_async import AsyncFace
from integrations.checkpoint_values import (
    WIDTH,
    Batch,
    Bounded,
    Codec,
    FrameReader,
    FrameWriter,
    Stored,
    compress,
    frames,
    serializer,
    split,
)
from integrations.redisserver import translated

__all__ = ["Fence", "RedisSaver", "serializer"]

Argument = bytes | str | int
PendingWrites = list[PendingWrite]
Refs = dict[str, tuple[Any, Stored]]
"""Of each channel: its version, and where its value is."""


@dataclass(frozen=True)
class Fence:
    """Writes go through only while the string at `lease_key` is `token`; the script that writes looks itself."""

    lease_key: str | bytes
    token: bytes

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("a fence needs a token")


@dataclass(frozen=True)
class _Head:
    """A checkpoint without its values."""

    ns: str
    id: str
    parent: str | None
    checkpoint: dict[str, Any]
    metadata: CheckpointMetadata
    refs: Mapping[str, Any]

    @property
    def field(self) -> str:
        return f"{self.ns}\0{self.id}"


class RedisSaver(AsyncFace):
    """A saver for one or many threads; every thread is the Redis hash `{prefix}:{{thread}}`.

    `ttl` (seconds) is set anew at each write; without it a new checkpoint makes the thread last for ever, also one
    that `expire` had been called for. Thread-safe. Any method raises StoreUnavailable when Redis is away (a read never
    says "no such thread" then), and any writing one LeaseLost, having written nothing, when the fence has fallen.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        fence: Fence | None = None,
        ttl: int | None = None,
        prefix: str = "tw:ckpt",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde or serializer(()))
        self._redis = client
        self._fence = fence
        self._ttl = ttl or 0
        self._prefix = prefix
        # Guards the memories below; put and put_writes come from several threads of one run.
        self._lock = threading.RLock()
        self._codec = Codec(self.serde)
        self._known: Bounded[tuple[str, bytes], bool] = Bounded(65_536)
        self._refs: Bounded[tuple[str, str, str], Refs] = Bounded(32)

    def with_allowlist(self, extra_allowlist: Any) -> RedisSaver:
        """As the base class does it; the clone gets a memory of its own, for it serialises differently."""
        clone = cast(RedisSaver, super().with_allowlist(extra_allowlist))
        if clone is not self:
            clone._codec = Codec(clone.serde)
        return clone

    # ---- writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread, ns = _place(config)
        parent = get_checkpoint_id(config)
        bare = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        kept = get_checkpoint_metadata(config, metadata)

        def attempt(batch: Batch) -> bool:
            base = {} if batch.fresh else self._refs.find((thread, ns, parent or "")) or {}
            refs, appends = _encode(batch, checkpoint, new_versions, base)
            writer = FrameWriter()
            named = {channel: writer.ref(stored) for channel, (_, stored) in refs.items()}
            frame = writer.finish(self._body([parent, bare, kept, named]))
            grown = [len(appends), *(part for append in appends for part in append)]
            arguments = [ns, checkpoint["id"], self._ttl, frame, *batch.arguments(), *grown]
            if not self._write(scripts.PUT, thread, arguments):
                return False
            self._refs.keep((thread, ns, checkpoint["id"]), refs)
            return True

        self._store(thread, attempt)
        return _config(thread, ns, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Writes at the same places are kept as they were first, special ones (interrupts, answers) as they were last.

        All writes of a checkpoint share a field, which each of its tasks rewrites: a fan-out of hundreds would be dear.
        """
        thread, ns = _place(config)
        places = [(WRITES_IDX_MAP.get(channel, n), channel, value) for n, (channel, value) in enumerate(writes)]

        def attempt(batch: Batch) -> bool:
            entries: list[Argument] = []
            for mode, special in (("first", False), ("last", True)):
                writer = FrameWriter()
                named = [[i, c, writer.ref(_written(batch, v))] for i, c, v in places if (i < 0) is special]
                if named:
                    entries += [mode, writer.finish(self._body([task_id, task_path, named]))]
            arguments = [ns, config["configurable"]["checkpoint_id"], self._ttl, *batch.arguments(), *entries]
            return self._write(scripts.PUT_WRITES, thread, arguments)

        if places:
            self._store(thread, attempt)

    def _store(self, thread: str, attempt: Any) -> None:
        """What we believed to be in Redis may be gone (pruned, expired, another branch): then send everything."""
        with self._lock:
            for fresh in (False, True):
                batch = Batch(self._codec, self._known, thread, fresh)
                if attempt(batch):
                    batch.landed()
                    return
        raise StoreUnavailable(f"Redis did not take a complete checkpoint of {thread}.")

    def _body(self, parts: Sequence[Any]) -> bytes:
        kind, data = self.serde.dumps_typed(parts)
        return compress(kind.encode() + b"\0" + data)

    def _write(self, script: scripts.Script, thread: str, arguments: Sequence[Argument], *more: bytes) -> bool:
        """False when the script found something missing and wrote nothing."""
        token = self._fence.token if self._fence else b""
        answer = self._run(script, thread, [token, *arguments], *more)
        if answer == b"lost":
            raise LeaseLost(f"Another worker has taken over {thread}.")
        return bool(answer == b"ok")

    def _run(self, script: scripts.Script, thread: str, arguments: Sequence[Argument], *more: bytes) -> Any:
        key = self._key(thread)
        lease = self._fence.lease_key if self._fence else key
        keys = [key, lease.encode() if isinstance(lease, str) else lease, *more]
        with translated():
            return script.run(self._redis, keys, arguments)

    def _key(self, thread: str) -> bytes:
        return f"{self._prefix}:{{{thread}}}".encode()

    # ---- reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, ns = _place(config)
        return self._get(thread, ns, get_checkpoint_id(config) or "")

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base class's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Newest first within a thread, over all its namespaces unless one is given; one round trip each, and one."""
        wanted = config["configurable"] if config else {}
        bound = get_checkpoint_id(before) if before else None
        given = 0
        for thread in [str(wanted["thread_id"])] if config else self._threads():
            for head in sorted(self._heads(thread), key=lambda head: head.id, reverse=True):
                if given == limit:
                    return
                if (
                    head.ns != wanted.get("checkpoint_ns", head.ns)
                    or head.id != (wanted.get("checkpoint_id") or head.id)
                    or (bound and head.id >= bound)
                    or any(head.metadata.get(key) != value for key, value in (filter or {}).items())
                ):
                    continue
                if found := self._get(thread, head.ns, head.id):
                    given += 1
                    yield found

    def _get(self, thread: str, ns: str, checkpoint_id: str) -> CheckpointTuple | None:
        answer = self._run(scripts.GET, thread, [b"", ns, checkpoint_id])
        if answer is None:
            return None
        raw_id, frame, writes, logs, flat = answer
        objects = dict(zip(flat[::2], flat[1::2], strict=True))
        if not all(objects.values()):
            raise StoreDamaged(f"A checkpoint of {thread} is damaged: a value is not in Redis.")
        found_id = raw_id.decode()
        reader = FrameReader(frame)
        parent, bare, metadata, named = self._codec.unpack(reader.body)
        where = {channel: reader.stored(ref, logs) for channel, ref in named.items()}
        with self._lock:
            values = {channel: self._value(stored, objects) for channel, stored in where.items()}
            pending = self._pending(writes, objects)
            for digest in objects:
                self._known.keep((thread, digest), True)
            versions = bare["channel_versions"]
            self._refs.keep((thread, ns, found_id), {c: (versions.get(c), stored) for c, stored in where.items()})
        return CheckpointTuple(
            config=_config(thread, ns, found_id),
            checkpoint=cast(Checkpoint, {**bare, "channel_values": values}),
            metadata=metadata,
            parent_config=_config(thread, ns, parent) if parent else None,
            pending_writes=pending,
        )

    def _value(self, stored: Stored, objects: Mapping[bytes, bytes]) -> Any:
        if stored.inline is not None:
            return self.serde.loads_typed(stored.inline)
        if stored.digest:
            return self._codec.unpack(objects[stored.digest])
        return [self._codec.unpack_item(digest, objects[digest]) for digest in split(stored.items)]

    def _pending(self, joined: bytes, objects: Mapping[bytes, bytes]) -> PendingWrites:
        kept: dict[tuple[str, int], tuple[str, PendingWrite]] = {}
        for frame in frames(joined):
            reader = FrameReader(frame)
            task_id, path, named = self._codec.unpack(reader.body)
            for index, channel, ref in named:
                if index < 0 or (task_id, index) not in kept:
                    value = self._value(reader.stored(ref), objects)
                    kept[task_id, index] = (path, (task_id, channel, value))
        # The order in which a live run applies them: any other rebuilds another state after a fan-out.
        order = sorted(kept, key=lambda place: writes_sort_key(kept[place][0], *place))
        return [kept[place][1] for place in order]

    def _heads(self, thread: str) -> Sequence[_Head]:
        flat = self._run(scripts.HEADS, thread, [b""])
        heads = []
        for name, frame in zip(flat[::2], flat[1::2], strict=True):
            ns, _, found_id = name[1:].decode().partition("\0")
            parent, bare, metadata, named = self._codec.unpack(FrameReader(frame).body)
            heads.append(_Head(ns, found_id, parent, bare, metadata, named))
        return heads

    def _threads(self) -> Sequence[str]:
        start = f"{self._prefix}:{{"
        pattern = "".join(f"\\{c}" if c in "*?[]\\" else c for c in start) + "*}"
        with translated():
            return [key.decode()[len(start) : -1] for key in self._redis.scan_iter(match=pattern, count=1000)]

    # ---- whole threads

    def expire(self, thread_id: str, seconds: int) -> None:
        """Let the whole thread vanish after so many seconds, unless a new checkpoint comes."""
        self._write(scripts.WHOLE, str(thread_id), ["expire", seconds])

    def persist(self, thread_id: str) -> None:
        """Take back `expire`."""
        self._write(scripts.WHOLE, str(thread_id), ["persist"])

    def delete_thread(self, thread_id: str) -> None:
        self._write(scripts.WHOLE, str(thread_id), ["delete"])

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Everything, its expiry included; what the target had is replaced. A source that is not there: nothing."""
        self._write(scripts.WHOLE, str(source_thread_id), ["copy"], self._key(str(target_thread_id)))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Goes through all threads: for the operator, not for every turn."""
        wanted = set(run_ids)
        for thread in self._threads() if wanted else []:
            self._remove(thread, [head for head in self._heads(thread) if head.metadata.get("run_id") in wanted])

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep of each namespace the newest checkpoint, and those from which its delta channels are rebuilt."""
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"no such strategy: {strategy}")
        for thread in map(str, thread_ids):
            if strategy == "delete":
                self.delete_thread(thread)
                continue
            heads = self._heads(thread)
            kept = {head.field for ns in {head.ns for head in heads} for head in _needed(heads, ns)}
            self._remove(thread, [head for head in heads if head.field not in kept])

    def thin(self, thread_id: str, channel: str) -> None:
        """Keep what `prune` keeps, and besides the first checkpoint of each value that `channel` has had."""
        heads = sorted(self._heads(thread_id), key=lambda head: head.id)
        kept = {head.field for ns in {head.ns for head in heads} for head in _needed(heads, ns)}
        seen: set[object] = set()
        for head in heads:
            version = (head.ns, head.checkpoint["channel_versions"].get(channel))
            if version not in seen:
                seen.add(version)
                kept.add(head.field)
        self._remove(thread_id, [head for head in heads if head.field not in kept])

    def _remove(self, thread: str, heads: Sequence[_Head]) -> None:
        if heads:
            self._write(scripts.REMOVE, thread, [head.field for head in heads])


def _place(config: RunnableConfig) -> tuple[str, str]:
    found = config["configurable"]
    return str(found["thread_id"]), found.get("checkpoint_ns", "")


def _config(thread: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _encode(
    batch: Batch, checkpoint: Checkpoint, new_versions: ChannelVersions, base: Refs
) -> tuple[Refs, list[tuple[bytes, int, bytes]]]:
    """Where each channel's value goes, and what that adds to logs: (log, its length before, digests).

    `base`: the parent's channels. A version number alone says nothing, for two branches count alike.
    """
    refs: Refs = {}
    appends: list[tuple[bytes, int, bytes]] = []
    values = checkpoint["channel_values"]
    for channel, version in checkpoint["channel_versions"].items():
        if channel not in values:
            continue
        before, old = base.get(channel, (None, Stored()))
        if channel not in new_versions and before == version:
            refs[channel] = (version, old)
            continue
        items = batch.items(values[channel])
        if items is None:
            refs[channel] = (version, batch.value(values[channel]))
            continue
        log, length = (old.log, len(old.items)) if old.log and items.startswith(old.items) else (os.urandom(8), 0)
        if len(items) > length:
            appends.append((log, length // WIDTH, items[length:]))
        refs[channel] = (version, Stored(log=log, items=items))
    return refs, appends


def _written(batch: Batch, value: Any) -> Stored:
    items = batch.items(value)
    return batch.value(value) if items is None else Stored(items=items)


def _needed(heads: Sequence[_Head], ns: str) -> Iterator[_Head]:
    """The newest of a namespace and, while a delta channel has no snapshot yet on the way back, its ancestors."""
    by_id = {head.id: head for head in heads if head.ns == ns}
    head: _Head | None = by_id[max(by_id)]
    missing = set((head.metadata if head else {}).get("counters_since_delta_snapshot") or ())
    while head is not None:
        yield head
        missing -= head.refs.keys()
        head = by_id.get(head.parent or "") if missing else None
