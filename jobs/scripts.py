"""The Lua scripts: each is one atomic step of a task's life, called through `Tasks.script` alone.

Conventions: the lease key comes first where a script is fenced, and the token is its first argument; a fenced script
answers nil when the token is not the holder's, and has written nothing then.
"""

from __future__ import annotations

FENCE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end\n"

# KEYS: record, place, active, tasks, seen...
# ARGV: id, now, seen ttl, retake, place key, ended statuses, field, value...
CREATE = """
for i = 5, #KEYS do
  local known = redis.call('GET', KEYS[i])
  if known then return {known, 0} end
end
local newest = redis.call('LINDEX', KEYS[2], -1)
if newest and ARGV[4] == '0' then
  local status = redis.call('HGET', 'tw:task:{' .. newest .. '}', 'status')
  if status and not string.find(' ' .. ARGV[6] .. ' ', ' ' .. status .. ' ', 1, true) then
    return {newest, 0}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('TAKEN task id') end
for i = 5, #KEYS do redis.call('SET', KEYS[i], ARGV[1], 'EX', ARGV[3]) end
redis.call('HSET', KEYS[1], 'status', 'running', 'since', ARGV[2], 'created', ARGV[2],
           'places', cjson.encode({ARGV[5]}), unpack(ARGV, 7))
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], 31536000)
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
return {ARGV[1], 1}
"""

# Who leaves `asking` leaves its deadlines behind: they are those of a question that has its answer.
LEAVE_ASKING = "redis.call('ZREM', KEYS[4], ARGV[4] .. '|answer', ARGV[4] .. '|remind', ARGV[4] .. '|park')\n"

# An ended task is woken, too: its next turn tells the person that the words came too late.
# KEYS: record, inbox, lease, due, seen..., active   ARGV: entry, seen ttl, now, id, statuses that wake...
TELL = (
    """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {0, 0} end
for i = 5, #KEYS - 1 do
  if redis.call('EXISTS', KEYS[i]) == 1 then return {0, 0} end
end
for i = 5, #KEYS - 1 do redis.call('SET', KEYS[i], ARGV[4], 'EX', ARGV[2]) end
redis.call('RPUSH', KEYS[2], ARGV[1])
for i = 5, #ARGV do
  if ARGV[i] == status and status ~= 'running' then
    redis.call('HSET', KEYS[1], 'status', 'running', 'since', ARGV[3])
    redis.call('SADD', KEYS[#KEYS], ARGV[4])
    """
    + LEAVE_ASKING
    + """
    status = 'running'
  end
end
local over = status == 'stopped' or status == 'failed' or status == 'done'
local wake = 0
if (status == 'running' or over) and redis.call('EXISTS', KEYS[3]) == 0 then wake = 1 end
return {1, wake}
"""
)

# KEYS: record, active, parts...   ARGV: now, id, legal statuses, retry
REOPEN = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status or not string.find('|' .. ARGV[3] .. '|', '|' .. status .. '|', 1, true) then return 0 end
redis.call('HDEL', KEYS[1], 'stop', 'pause', 'paused_by', 'failures', 'begun', 'keep', 'final')
redis.call('HSET', KEYS[1], 'status', 'running', 'since', ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HDEL', KEYS[1], 'down_since')
  redis.call('HSET', KEYS[1], 'retry', '1')
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PERSIST', KEYS[1])
for i = 3, #KEYS do redis.call('PERSIST', KEYS[i]) end
return 1
"""

# KEYS: record, parts...   ARGV: seconds, ended statuses
EXPIRE = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status or not string.find('|' .. ARGV[2] .. '|', '|' .. status .. '|', 1, true) then return 0 end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
return 1
"""

# Never makes a record: one without a status would be neither there nor gone.
# KEYS: record   ARGV: field, value...
FLAG = """
if redis.call('HEXISTS', KEYS[1], 'status') == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""

# Claimed words may change as well while no turn is at them.
# KEYS: lease, inbox, claimed   ARGV: message id, new text, remove
EDIT = """
for k = 2, redis.call('EXISTS', KEYS[1]) == 1 and 2 or 3 do
  for i, raw in ipairs(redis.call('LRANGE', KEYS[k], 0, -1)) do
    local entry = cjson.decode(raw)
    if entry.message == ARGV[1] then
      if ARGV[3] == '1' then
        redis.call('LREM', KEYS[k], 1, raw)
      else
        entry.text = ARGV[2]
        redis.call('LSET', KEYS[k], i - 1, cjson.encode(entry))
      end
      return 1
    end
  end
end
return 0
"""

# KEYS: lease, fence, woken   ARGV: ttl ms
TAKE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return nil end
redis.call('DEL', KEYS[3])
local token = tostring(redis.call('INCR', KEYS[2]))
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token
"""

# KEYS: lease, record, inbox   ARGV: token, ttl ms
BEAT = (
    FENCE
    + """
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local stop, pause = redis.call('HGET', KEYS[2], 'stop'), redis.call('HGET', KEYS[2], 'pause')
return {stop or '', pause or '', redis.call('LLEN', KEYS[3])}
"""
)

# KEYS: lease, inbox, claimed   ARGV: token
CLAIM = (
    FENCE
    + """
while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do end
return redis.call('LRANGE', KEYS[3], 0, -1)
"""
)

# KEYS: lease, claimed   ARGV: token, count
ACKNOWLEDGE = FENCE + "redis.call('LTRIM', KEYS[2], ARGV[2], -1) return 1"

# KEYS: lease, record   ARGV: token, field, value...
WRITE = FENCE + "redis.call('HSET', KEYS[2], unpack(ARGV, 2)) return 1"

# Entries that came after the last claim are in the inbox; what a claim left for later stays in `claimed`.
# KEYS: lease, record, inbox   ARGV: token
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
local status = redis.call('HGET', KEYS[2], 'status')
if status == 'running' then return 1 end
if redis.call('LLEN', KEYS[3]) > 0 then return 1 end
local over = status == 'stopped' or status == 'failed' or status == 'done'
if redis.call('HEXISTS', KEYS[2], 'stop') == 1 and not over then return 1 end
return 0
"""

# KEYS: lease, record, active, due   ARGV: token or '', new, now, id, legal old ones, ended ones, field, value...
MOVE = """
local holder = redis.call('GET', KEYS[1])
if ARGV[1] ~= '' then
  if holder ~= ARGV[1] then return nil end
elseif holder then
  return 0
end
local status = redis.call('HGET', KEYS[2], 'status')
if not status then return 0 end
if not string.find('|' .. ARGV[5] .. '|', '|' .. status .. '|', 1, true) then return 0 end
redis.call('HSET', KEYS[2], 'status', ARGV[2], 'since', ARGV[3], unpack(ARGV, 7))
local over = string.find('|' .. ARGV[6] .. '|', '|' .. ARGV[2] .. '|', 1, true)
if over and redis.call('HEXISTS', KEYS[2], 'keep') == 0 then
  redis.call('SREM', KEYS[3], ARGV[4])
else
  redis.call('SADD', KEYS[3], ARGV[4])
end
if ARGV[2] ~= 'asking' then
  redis.call('ZREM', KEYS[4], ARGV[4] .. '|answer', ARGV[4] .. '|remind', ARGV[4] .. '|park')
end
if ARGV[2] ~= 'backing off' then redis.call('ZREM', KEYS[4], ARGV[4] .. '|model') end
return 1
"""

# KEYS: lease, journal   ARGV: token, line
NOTE = FENCE + "redis.call('RPUSH', KEYS[2], ARGV[2]) return 1"

# Effects come one after another: when the next one begins, the result of the one before is in a checkpoint.
# KEYS: lease, effects   ARGV: token, key, what
BEGIN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
local found = redis.call('HGET', KEYS[2], ARGV[2])
if found then return found end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], ARGV[2], cjson.encode({what = ARGV[3]}))
return nil
"""

# KEYS: lease, effects   ARGV: token, key, json
END = FENCE + "redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) return 1"

# A post enters the outbox once per key, for every place of the task.
# KEYS: lease, outbox, record   ARGV: token or '' (nobody may hold it then, or anybody: '*'), key, json, id
POST = """
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == '' and holder then return nil end
if ARGV[1] ~= '' and ARGV[1] ~= '*' and holder ~= ARGV[1] then return nil end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 0 end
for _, place in ipairs(cjson.decode(redis.call('HGET', KEYS[3], 'places') or '[]')) do
  local stream = string.match(place, '^[^/]*/[^/]*')
  redis.call('RPUSH', 'tw:out:' .. stream, cjson.encode({task = ARGV[4], key = ARGV[2], place = place}))
end
return 1
"""

# KEYS: lease, outbox, record   ARGV: token or '*', key, json, id
AMEND = """
if ARGV[1] ~= '*' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end
if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
for _, place in ipairs(cjson.decode(redis.call('HGET', KEYS[3], 'places') or '[]')) do
  local stream = string.match(place, '^[^/]*/[^/]*')
  redis.call('RPUSH', 'tw:out:' .. stream, cjson.encode({task = ARGV[4], key = ARGV[2], place = place}))
end
return 1
"""

# The newest card replaces the one that has not been sent.
# KEYS: lease, record   ARGV: token or '*', json, id
CARD = """
if ARGV[1] ~= '*' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end
if redis.call('HGET', KEYS[2], 'card') == ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'card', ARGV[2])
for _, place in ipairs(cjson.decode(redis.call('HGET', KEYS[2], 'places') or '[]')) do
  redis.call('SADD', 'tw:cards:' .. string.match(place, '^[^/]*/[^/]*'), ARGV[3] .. '|' .. place)
end
return 1
"""

# One drainer a platform and workspace: hold or renew.
# KEYS: drain lease, fence   ARGV: own token or '', ttl ms
HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return nil end
local token = holder or tostring(redis.call('INCR', KEYS[2]))
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
"""

# KEYS: drain lease   ARGV: token
DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"

# A card is sent only if it is still the newest one.
# KEYS: cards due, record   ARGV: member, json that was sent
SENT = """
if redis.call('HGET', KEYS[2], 'card') == ARGV[2] then redis.call('SREM', KEYS[1], ARGV[1]) end
return 1
"""

# A letter is stored once for all of its keys.
# KEYS: stream, keys...   ARGV: body, ttl
KEEP = """
for i = 2, #KEYS do if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end end
redis.call('XADD', KEYS[1], '*', 'body', ARGV[1])
for i = 2, #KEYS do redis.call('SET', KEYS[i], '1', 'EX', ARGV[2]) end
return 1
"""

# KEYS: hash   ARGV: field, value, ttl
GREATEST = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or known < ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
"""

ALL = {
    "keep": KEEP,
    "greatest": GREATEST,
    "amend": AMEND,
    "hold": HOLD,
    "drop": DROP,
    "sent": SENT,
    "create": CREATE,
    "tell": TELL,
    "edit": EDIT,
    "take": TAKE,
    "beat": BEAT,
    "claim": CLAIM,
    "acknowledge": ACKNOWLEDGE,
    "write": WRITE,
    "release": RELEASE,
    "move": MOVE,
    "note": NOTE,
    "begin": BEGIN,
    "end": END,
    "reopen": REOPEN,
    "expire": EXPIRE,
    "flag": FLAG,
    "post": POST,
    "card": CARD,
}
