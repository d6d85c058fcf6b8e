"""What Redis does with a session in one step: Lua, run by the server.

A record is a line of JSON and, behind it, ``ses_data`` as it is. The line is ``SessionRecord``
without that and without ``ses_id``, which is in the key. ``ses_userid`` is a string for a user and
a number for an anonymous session. Sessions of a user are listed in a sorted set, each ``ses_id``
with the server's time at which its key will be gone at the latest.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_COMMON = """
-- Returns nothing for text that is no record of ours.
local function decode(text)
  local ending = string.find(text, '\\n', 1, true)
  local is_json, record = pcall(cjson.decode, string.sub(text, 1, (ending or 1) - 1))
  if is_json and type(record) == 'table' and type(record.ses_tstamp) == 'number'
      and (type(record.ses_userid) == 'string' or type(record.ses_userid) == 'number') then
    record.ses_data = string.sub(text, ending + 1)
    return record
  end
end

local function trim(user)
  local time = tonumber(redis.call('TIME')[1])
  redis.call('ZREMRANGEBYSCORE', user, '-inf', '(' .. time)
  return time
end

local function enter(user, ses_id, seconds)
  redis.call('ZADD', user, 'GT', trim(user) + seconds, ses_id)
  if redis.call('TTL', user) < seconds then
    redis.call('EXPIRE', user, seconds)
  end
end
"""

# ARGV of every script with records: [1] the site's time, [2] how long users' sessions live unused,
# [3] visitors', [4] how much longer their keys do, all in seconds; [5] see below.
_RECORDS = """
local now, grace = tonumber(ARGV[1]), tonumber(ARGV[4])
local user_lifetime, visitor_lifetime = tonumber(ARGV[2]), tonumber(ARGV[3])
-- What the key of a user's list starts with; empty where the caller maintains the lists.
local lists = ARGV[5]

-- Fields, from their JSON and the data behind "=" ("": no data among them).
local function fields_in(text, data)
  local fields = cjson.decode(text)
  if data ~= '' then
    fields.ses_data = string.sub(data, 2)
  end
  return fields
end

local function is_as(record, expected)
  for field, value in pairs(expected) do
    if record[field] ~= value then
      return false
    end
  end
  return true
end

local function encode(record)
  local line = {}
  for field, value in pairs(record) do
    if field ~= 'ses_data' then
      line[field] = value
    end
  end
  return cjson.encode(line) .. '\\n' .. record.ses_data
end

local function is_listed(record)
  return lists ~= '' and type(record.ses_userid) == 'string'
end

local function seconds_left(record)
  local lifetime = type(record.ses_userid) == 'string' and user_lifetime or visitor_lifetime
  return math.max(record.ses_tstamp + lifetime - now, 0) + grace
end

local function list(record, ses_id)
  if is_listed(record) then
    enter(lists .. record.ses_userid, ses_id, seconds_left(record))
  end
end

local function unlist(record, ses_id)
  if is_listed(record) then
    redis.call('ZREM', lists .. record.ses_userid, ses_id)
  end
end
"""

#: Store a record unless the key is taken. KEYS: where. ARGV[6]: ses_id, [7]: record. -> 0 or 1
INSERT = _script(
    _COMMON
    + _RECORDS
    + """
local record = decode(ARGV[7])
if not redis.call('SET', KEYS[1], ARGV[7], 'NX', 'EX', seconds_left(record)) then
  return 0
end
list(record, ARGV[6])
return 1
"""
)

#: Change fields, and perhaps the key. KEYS[1]: the key afterwards, then where the record may be.
#: ARGV[6] and [7]: fields to set, [8] and [9]: fields that must hold, then the ses_id of each key.
#: -> 0 or 1
UPDATE = _script(
    _COMMON
    + _RECORDS
    + """
for place = 2, #KEYS do
  local text = redis.call('GET', KEYS[place])
  if text then
    local record = decode(text)
    if not record or not is_as(record, fields_in(ARGV[8], ARGV[9])) then
      return 0
    end
    local before = {ses_userid = record.ses_userid}
    for field, value in pairs(fields_in(ARGV[6], ARGV[7])) do
      record[field] = value
    end
    local moves = KEYS[place] ~= KEYS[1]
    -- A full server refuses this command: it comes first, so that nothing is half done.
    if not redis.call('SET', KEYS[1], encode(record), moves and 'NX' or 'XX',
                      'EX', seconds_left(record)) then
      return redis.error_reply('TAKEN The new key of a session is in use.')
    end
    if moves then
      redis.call('DEL', KEYS[place])
    end
    if moves or before.ses_userid ~= record.ses_userid then
      unlist(before, ARGV[9 + place])
    end
    list(record, ARGV[10])
    return 1
  end
end
return 0
"""
)

#: Delete records. KEYS: which. ARGV[6] and [7]: fields that must hold, then the ses_id of each key.
#: Text that is no record is deleted, too, unless data is compared.
#: -> for each that was there, its user or ''
DELETE = _script(
    _COMMON
    + _RECORDS
    + """
local expected, owners = fields_in(ARGV[6], ARGV[7]), {}
for place, key in ipairs(KEYS) do
  local text = redis.call('GET', key)
  local record = text and decode(text)
  if record and is_as(record, expected) or text and not record and not expected.ses_data then
    redis.call('DEL', key)
    unlist(record or {}, ARGV[7 + place])
    local is_users = record and type(record.ses_userid) == 'string'
    table.insert(owners, is_users and record.ses_userid or '')
  end
end
return owners
"""
)

#: Delete a record that is still as it was read. KEYS: which. ARGV: what was read. -> 0 or 1
DELETE_AS_READ = _script(
    "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
)

#: Put a session on its user's list. KEYS: the list. ARGV: ses_id, seconds until its key is gone.
ENTER = _script(_COMMON + "enter(KEYS[1], ARGV[1], tonumber(ARGV[2]))")

#: -> the ses_ids on a user's list, without those whose keys are gone. KEYS: the list.
LIST = _script(
    _COMMON
    + """
local time = redis.call('TIME')[1]
-- Not called but tried: a replica can only be read.
redis.pcall('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. time)
return redis.call('ZRANGEBYSCORE', KEYS[1], time, '+inf')
"""
)

#: Delete what is on a user's list, a batch at most, except records of other users. KEYS: the list.
#: ARGV: what the records' keys start with, the user, the size of a batch, then the ses_ids that
#: stay. -> how many records went, how many entries the list lost
DELETE_BY_USER = _script(
    _COMMON
    + """
local kept, deleted, taken = {}, 0, 0
for place = 4, #ARGV do
  kept[ARGV[place]] = true
end
trim(KEYS[1])
local last = tonumber(ARGV[3]) + #ARGV - 4
for _, ses_id in ipairs(redis.call('ZRANGE', KEYS[1], 0, last)) do
  if not kept[ses_id] then
    local key = ARGV[1] .. ses_id
    local text = redis.call('GET', key)
    local record = text and decode(text)
    if text and not (record and record.ses_userid ~= ARGV[2]) then
      deleted = deleted + redis.call('DEL', key)
    end
    redis.call('ZREM', KEYS[1], ses_id)
    taken = taken + 1
  end
end
return {deleted, taken}
"""
)
