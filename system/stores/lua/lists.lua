-- What every script begins with: marks, packed lists of tweets, sets of users. Layout: schema/redis.md.
-- ARGV[1] is the key prefix, ARGV[2] the epoch (run id) the caller connected to; a mark of another epoch counts as absent.
-- Offsets that never change are strings: Redis formats a Lua number with "%.17g" at each call, dearer than the call itself.
local call, sub, find, rep, format, floor = redis.call, string.sub, string.find, string.rep, string.format, math.floor
local unpack_be, PREFIX = struct.unpack, ARGV[1]
local COMPLETE, BUILDING = 'C|' .. ARGV[2] .. '|', 'B|' .. ARGV[2] .. '|'
local MARK, RECORD = 79, 16 -- bytes: 'C|' + 40 + '|' + floor 19 + '|' + token 16; 8 id + 8 author, big-endian

local function mark_of_tweets(key) -- '' where there is no list
  return call('GETRANGE', key, '0', '78')
end

local function mark_of_users(key) -- the one member with score +inf; REV order starts at the tail pointer: O(1)
  return call('ZREVRANGE', key, '0', '0')[1] or ''
end

local function is_complete(mark)
  return sub(mark, 1, 43) == COMPLETE
end

local function is_live(mark)
  local head = sub(mark, 1, 43)
  return head == COMPLETE or head == BUILDING
end

local function floor_of(mark)
  return sub(mark, 44, 62)
end

local function token_of(mark)
  return sub(mark, 64)
end

-- The 19 decimal digits of a 64-bit number in two halves; exact, though a Lua number holds 53 bits only.
local function digits(hi, lo)
  local rest = (hi % 1000000) * 4294967296 + lo
  return format('%013.0f%06.0f', floor(hi / 1000000) * 4294967296 + floor(rest / 1000000), rest % 1000000)
end

-- How many records of a packed list (ascending ids) lie below an id.
local function count_below(body, hi, lo)
  local low, high = 0, #body / RECORD
  while low < high do
    local middle = floor((low + high) / 2)
    local h, l = unpack_be('>I4I4', body, middle * RECORD + 1)
    if h < hi or (h == hi and l < lo) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Whether record number `at` (from 0) of a packed list has this id (its first 8 bytes).
local function stands_at(body, at, id)
  return sub(body, at * RECORD + 1, at * RECORD + 8) == id
end

-- Both packed lists as one, each id once. Cost grows with the shorter one, `extra`.
local function merged(body, extra)
  for from = 1, #extra, RECORD do
    local at = count_below(body, unpack_be('>I4I4', extra, from))
    if not stands_at(body, at, sub(extra, from, from + 7)) then
      body = sub(body, 1, at * RECORD) .. sub(extra, from, from + RECORD - 1) .. sub(body, at * RECORD + 1)
    end
  end
  return body
end

-- A packed list without ids below `floor_id` (8 bytes).
local function above(body, floor_id)
  return sub(body, count_below(body, unpack_be('>I4I4', floor_id)) * RECORD + 1)
end

-- The newest `cap` records and the floor they leave: the lowest id kept.
local function capped(body, cap)
  body = sub(body, -cap * RECORD)
  return body, digits(unpack_be('>I4I4', body))
end

-- The 8 bytes of 19 digits.
local function bytes_of(text)
  local high, low = tonumber(sub(text, 1, 13)), tonumber(sub(text, 14))
  local hi = floor(high / 4294967296) * 1000000
  local rest = (high % 4294967296) * 1000000 + low
  return struct.pack('>I4I4', hi + floor(rest / 4294967296), rest % 4294967296)
end

-- A function that adds `record` to the live list under a key, trims it, and returns 1; or returns 0 where no list is live.
-- The lists of one call are mostly of one kind (followers of one author), so the place found in one, counted from the end, is
-- tried first in the next: `depth` records lie above it (0: append).
local function deliverer(record, cap, slack)
  local id, HI, LO = sub(record, 1, 8), unpack_be('>I4I4', record)
  local most, kept = MARK + (cap + slack) * RECORD, tostring(-cap * RECORD)
  local depth, window = 0, '-16'

  local function trim(key)
    local mark = mark_of_tweets(key)
    if is_complete(mark) then -- a building list is cut when it is completed
      local body = call('GETRANGE', key, kept, '-1')
      call('SET', key, COMPLETE .. digits(unpack_be('>I4I4', body)) .. sub(mark, 63) .. body)
    end
  end

  local function insert(key)
    local mark, body = mark_of_tweets(key), call('GETRANGE', key, '79', '-1')
    local at = count_below(body, HI, LO)
    if stands_at(body, at, id) or (is_complete(mark) and digits(HI, LO) < floor_of(mark)) then
      return
    end
    depth = #body / RECORD - at
    window = tostring(-(depth + 1) * RECORD)
    if call('SETRANGE', key, MARK + at * RECORD, record .. sub(body, at * RECORD + 1)) > most then
      trim(key)
    end
  end

  return function(key)
    local head = call('GETRANGE', key, '0', '42')
    if head ~= COMPLETE and head ~= BUILDING then
      return 0
    end
    local length = depth > 0 and call('STRLEN', key) or 0
    local start = length - depth * RECORD
    if depth > 0 and start < MARK + RECORD then
      insert(key)
      return 1
    end
    -- Of an empty list the last 16 bytes are its token, which begins with '~' and so lies above every id.
    local tail = call('GETRANGE', key, window, '-1')
    local hi, lo = unpack_be('>I4I4', tail)
    local fits = hi < HI or (hi == HI and lo < LO)
    if fits and depth > 0 then
      hi, lo = unpack_be('>I4I4', tail, 17)
      fits = hi > HI or (hi == HI and lo > LO)
    end
    if not fits then
      insert(key)
    elseif depth == 0 then
      if call('APPEND', key, record) > most then
        trim(key)
      end
    elseif call('SETRANGE', key, start, record .. sub(tail, 17)) > most then
      trim(key)
    end
    return 1
  end
end

-- Up to `count` users of a set above `after` (19 digits of a member; '' = from the lowest), and whether more follow.
-- By rank, so exact for ids that a double does not hold.
local function users_above(key, after, count)
  local first = 0
  if after ~= '' then
    local rank = call('ZRANK', key, after)
    first = rank and rank + 1 or call('ZCOUNT', key, '-inf', after)
  end
  local users = call('ZRANGE', key, first, first + count)
  local found = #users
  users[found] = nil -- the mark, or the first user of the next slice
  return users, found > count and call('ZCARD', key) > first + count + 1
end

-- A function that strips the zeros before an id. Made for ascending ids: it searches only where the number of digits grows.
local function stripper()
  local first, bound = 19, ''
  return function(padded)
    if bound == '' or padded >= bound then
      first = find(padded, '[1-9]') or 19
      bound = first > 1 and rep('0', first - 2) .. '1' .. rep('0', 20 - first) or '~'
    end
    return sub(padded, first)
  end
end
