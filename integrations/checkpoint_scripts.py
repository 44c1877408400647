"""The Lua of the checkpoint saver. A thread is one Redis hash, so its fields live, expire and go together.

Fields (NS is the checkpoint namespace, ID a checkpoint id; binary parts are big-endian):

    h NS             id of the newest checkpoint
    c NS \\0 ID       a checkpoint: one frame
    w NS \\0 ID       its pending writes: frames, each after its length (4 bytes), in the order they came
    o DIGEST         a value or a list's item, once per thread, by content (16 bytes of BLAKE2b)
    l LOG CHUNK      a list: up to 32 digests; LOG is 8 random bytes, CHUNK its number (4 bytes)

A log only grows, and a list is (log, length): every version of a growing list shares one log, and a version, once
written, reads the same for ever. An edited list starts a new log of 16 bytes an item.

A frame begins with what it needs, so that one script can fetch a checkpoint with all its values:
count of digests (4), count of logs (4), the digests, the logs (8 + 4 for the length each); then a body that only
Python reads.

Every script: KEYS[1] is the thread; ARGV[1] the lease's token, or empty, and then KEYS[2] the lease's key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis
from redis.exceptions import NoScriptError

CHUNK = 32
"""Digests in one field of a log: small, because an append rewrites its last field in the append-only file."""

_PRELUDE = f"""
local CHUNK, WIDTH = {CHUNK}, 16
local thread = KEYS[1]
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end

local function needs(frame, at)
  local digests, logs, p = {{}}, {{}}, at + 8
  local nd, nl = struct.unpack('>I4I4', frame, at)
  for i = 1, nd do
    digests[i] = string.sub(frame, p, p + WIDTH - 1)
    p = p + WIDTH
  end
  for i = 1, nl do
    logs[i] = {{string.sub(frame, p, p + 7), (struct.unpack('>I4', frame, p + 8))}}
    p = p + 12
  end
  return digests, logs
end

local function frames(joined)
  local found, p = {{}}, 1
  while joined and p <= #joined do
    found[#found + 1] = p + 4
    p = p + 4 + struct.unpack('>I4', joined, p)
  end
  return found
end

local function chunk_field(log, n) return 'l' .. log .. struct.pack('>I4', n) end

local function chunk_size(log, n) return redis.call('HSTRLEN', thread, chunk_field(log, n)) / WIDTH end

local function has_length(log, length)
  if length == 0 then return true end
  local last = length - 1
  return chunk_size(log, math.floor(last / CHUNK)) > last % CHUNK
end

local function ends_at(log, length)
  return has_length(log, length) and chunk_size(log, math.floor(length / CHUNK)) == length % CHUNK
end

local given = {{}}
local function stored(digest) return given[digest] or redis.call('HEXISTS', thread, 'o' .. digest) == 1 end

local function all_stored(joined)
  for p = 1, #joined, WIDTH do
    if not stored(string.sub(joined, p, p + WIDTH - 1)) then return false end
  end
  return true
end

local function take(at)
  local n = tonumber(ARGV[at])
  for i = at + 1, at + 2 * n, 2 do given[ARGV[i]] = ARGV[i + 1] end
  return at + 2 * n + 1
end

local function keep_given()
  for digest, value in pairs(given) do redis.call('HSETNX', thread, 'o' .. digest, value) end
end

local function append(log, at, tail)
  local n, used = math.floor(at / CHUNK), (at % CHUNK) * WIDTH
  local old = used > 0 and redis.call('HGET', thread, chunk_field(log, n)) or ''
  while #tail > 0 do
    local room = CHUNK * WIDTH - #old
    redis.call('HSET', thread, chunk_field(log, n), old .. string.sub(tail, 1, room))
    tail, old, n = string.sub(tail, room + 1), '', n + 1
  end
end
"""

# ARGV: token, ns, id, ttl or 0, frame, objects (n, digest, bytes …), appends (n, log, length before, digests …)
_PUT = """
local ns, id, ttl, frame = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local at = take(6)
local appends, grown = {}, {}
for i = 1, tonumber(ARGV[at]) do
  local log, length, tail = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  appends[i], grown[log] = {log, length, tail}, true
  at = at + 3
  if not ends_at(log, length) or not all_stored(tail) then return 'stale' end
end
-- All that could be missing is looked for before the first write: a script that stops halfway is not rolled back.
local digests, logs = needs(frame, 1)
for _, digest in ipairs(digests) do
  if not stored(digest) then return 'stale' end
end
for _, log in ipairs(logs) do
  if not grown[log[1]] and not has_length(log[1], log[2]) then return 'stale' end
end
keep_given()
for _, a in ipairs(appends) do append(a[1], a[2], a[3]) end
redis.call('HSET', thread, 'c' .. ns .. '\\0' .. id, frame)
local newest = redis.call('HGET', thread, 'h' .. ns)
if not newest or newest < id then redis.call('HSET', thread, 'h' .. ns, id) end
if ttl > 0 then redis.call('EXPIRE', thread, ttl) else redis.call('PERSIST', thread) end
return 'ok'
"""

# ARGV: token, ns, id, ttl or 0, objects (n, digest, bytes …), then mode and frame, any number of times
_PUT_WRITES = """
local key, ttl = 'w' .. ARGV[2] .. '\\0' .. ARGV[3], tonumber(ARGV[4])
local at = take(5)
for i = at, #ARGV, 2 do
  for _, digest in ipairs((needs(ARGV[i + 1], 1))) do
    if not stored(digest) then return 'stale' end
  end
end
keep_given()
local old = redis.call('HGET', thread, key) or ''
local new = old
for i = at, #ARGV, 2 do
  local entry = struct.pack('>I4', #ARGV[i + 1]) .. ARGV[i + 1]
  local from, to = string.find(new, entry, 1, true)
  if from and ARGV[i] == 'last' then
    new, from = string.sub(new, 1, from - 1) .. string.sub(new, to + 1), nil
  end
  if not from then new = new .. entry end
end
if new ~= old then redis.call('HSET', thread, key, new) end
if ttl > 0 then redis.call('EXPIRE', thread, ttl) end
return 'ok'
"""

# ARGV: token, ns, id or empty for the newest.
# Gives nothing, or id, frame, writes, the logs' digests, and objects (digest, bytes …)
_GET = """
local ns, id = ARGV[2], ARGV[3]
if id == '' then id = redis.call('HGET', thread, 'h' .. ns) end
local frame = id and redis.call('HGET', thread, 'c' .. ns .. '\\0' .. id)
if not frame then return false end
local writes = redis.call('HGET', thread, 'w' .. ns .. '\\0' .. id) or ''
local wanted, seen, logs = {}, {}, {}
local function want(digest)
  if not seen[digest] then
    seen[digest] = true
    wanted[#wanted + 1] = digest
  end
end
local digests, refs = needs(frame, 1)
for _, digest in ipairs(digests) do want(digest) end
for i, ref in ipairs(refs) do
  local parts = {}
  for n = 0, math.floor((ref[2] - 1) / CHUNK) do
    parts[#parts + 1] = redis.call('HGET', thread, chunk_field(ref[1], n)) or ''
  end
  logs[i] = string.sub(table.concat(parts), 1, ref[2] * WIDTH)
  for p = 1, #logs[i], WIDTH do want(string.sub(logs[i], p, p + WIDTH - 1)) end
end
for _, p in ipairs(frames(writes)) do
  for _, digest in ipairs((needs(writes, p))) do want(digest) end
end
local objects = {}
for _, digest in ipairs(wanted) do
  objects[#objects + 1] = digest
  objects[#objects + 1] = redis.call('HGET', thread, 'o' .. digest) or ''
end
return {id, frame, writes, logs, objects}
"""

# ARGV: token. Gives field and frame of every checkpoint, without their values.
_HEADS = """
local found = {}
for _, name in ipairs(redis.call('HKEYS', thread)) do
  if string.sub(name, 1, 1) == 'c' then
    found[#found + 1] = name
    found[#found + 1] = redis.call('HGET', thread, name)
  end
end
return found
"""

# ARGV: token, then NS \0 ID of each checkpoint that goes. What no other needs goes with it.
_REMOVE = """
for i = 2, #ARGV do redis.call('HDEL', thread, 'c' .. ARGV[i], 'w' .. ARGV[i]) end
local newest, live, any = {}, {}, false
local function mark(frame, at)
  local digests, logs = needs(frame, at)
  for _, digest in ipairs(digests) do live['o' .. digest] = true end
  for _, log in ipairs(logs) do live['l' .. log[1]] = true end
end
local names = redis.call('HKEYS', thread)
for _, name in ipairs(names) do
  local kind = string.sub(name, 1, 1)
  if kind == 'c' then
    any = true
    local cut = string.find(name, '\\0', 1, true)
    local ns, id = string.sub(name, 2, cut - 1), string.sub(name, cut + 1)
    if not newest[ns] or newest[ns] < id then newest[ns] = id end
    mark(redis.call('HGET', thread, name), 1)
  elseif kind == 'w' then
    local writes = redis.call('HGET', thread, name)
    for _, p in ipairs(frames(writes)) do mark(writes, p) end
  end
end
if not any then
  redis.call('UNLINK', thread)
  return 'ok'
end
-- A log is kept whole or not at all: a shortened one could grow again with other items at the same places.
for _, name in ipairs(names) do
  if string.sub(name, 1, 1) == 'l' and live[string.sub(name, 1, 9)] then
    local joined = redis.call('HGET', thread, name)
    for p = 1, #joined, WIDTH do live['o' .. string.sub(joined, p, p + WIDTH - 1)] = true end
  end
end
for _, name in ipairs(names) do
  local kind = string.sub(name, 1, 1)
  local gone = kind == 'o' and not live[name] or kind == 'l' and not live[string.sub(name, 1, 9)]
  if kind == 'h' then
    local ns = string.sub(name, 2)
    if newest[ns] then redis.call('HSET', thread, name, newest[ns]) else gone = true end
  end
  if gone then redis.call('HDEL', thread, name) end
end
return 'ok'
"""

# ARGV: token, then one of: expire SECONDS, persist, delete, copy (to KEYS[3], replacing what is there).
_WHOLE = """
if ARGV[2] == 'expire' then redis.call('EXPIRE', thread, ARGV[3])
elseif ARGV[2] == 'persist' then redis.call('PERSIST', thread)
elseif ARGV[2] == 'delete' then redis.call('UNLINK', thread)
else redis.call('COPY', thread, KEYS[3], 'REPLACE') end
return 'ok'
"""


@dataclass(frozen=True)
class Script:
    body: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # Redis names scripts by SHA-1; nothing is secured by it.
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)

    @property
    def text(self) -> str:
        return _PRELUDE + self.body

    def run(self, client: redis.Redis, keys: Sequence[bytes], args: Sequence[bytes | str | int]) -> object:
        """One round trip; two the first time after a server's start."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *args)


PUT, PUT_WRITES, GET, HEADS, REMOVE, WHOLE = map(Script, (_PUT, _PUT_WRITES, _GET, _HEADS, _REMOVE, _WHOLE))
