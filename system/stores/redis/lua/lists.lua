-- Common library, prepended to every script: marks, packed lists of tweets, sets of users. Layout:
-- redis/keys.md.
-- ARGV[1] is the key prefix, ARGV[2] the epoch (run id) that the caller connected to; a mark of another epoch
-- counts as absent. Two costs shape this code (Redis 7.0). Redis formats a number argument with "%.17g", so
-- constant offsets are strings. Its Lua hashes every byte of every new string (about 1.3 ns per byte): long
-- values are never joined or cut in Lua, only moved.
local call, sub, find, rep, format, floor = redis.call, string.sub, string.find, string.rep, string.format, math.floor
local unpack_be, PREFIX = struct.unpack, ARGV[1]
local COMPLETE, BUILDING = 'C|' .. ARGV[2] .. '|', 'B|' .. ARGV[2] .. '|'
local NEAR = 32 -- records: tweets posted at about the same time arrive out of id order
local MARK, RECORD = 79, 16 -- bytes: 'C|' + 40 + '|' + floor 19 + '|' + token 16; 8 id + 8 author, big-endian

local function mark_of_tweets(key) -- '' if there is no list
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

-- The 19 decimal digits of a 64-bit number in two halves; exact, although a Lua number has only 53 bits.
local function digits(hi, lo)
  local rest = (hi % 1000000) * 4294967296 + lo
  return format('%013.0f%06.0f', floor(hi / 1000000) * 4294967296 + floor(rest / 1000000), rest % 1000000)
end

-- How many records of a packed list (ascending ids) are below an id.
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

-- The same for the list at a key that holds `count` records, and whether the record at that place has exactly
-- this id.
local function place(key, count, hi, lo)
  local low, high = 0, count
  while low < high do
    local middle = floor((low + high) / 2)
    local from = MARK + middle * RECORD
    local h, l = unpack_be('>I4I4', call('GETRANGE', key, from, from + 7))
    if h == hi and l == lo then
      return middle, true
    elseif h < hi or (h == hi and l < lo) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low, false
end

-- The same if the place is among the newest NEAR records: one read instead of ten. nil if it is deeper.
local function place_near(key, count, hi, lo)
  local near = count < NEAR and count or NEAR
  local body = near > 0 and call('GETRANGE', key, -near * RECORD, '-1') or ''
  local at = count_below(body, hi, lo)
  if at == 0 and near < count then
    return nil, false
  elseif at == near then
    return count, false
  end
  local h, l = unpack_be('>I4I4', body, at * RECORD + 1)
  return count - near + at, h == hi and l == lo
end

local function records_of(key)
  return (call('STRLEN', key) - MARK) / RECORD
end

-- Both packed lists merged, each id once.
local function merged(body, extra)
  local pieces, done = {}, 0
  for from = 1, #extra, RECORD do
    local hi, lo = unpack_be('>I4I4', extra, from)
    local at = count_below(body, hi, lo)
    if sub(body, at * RECORD + 1, at * RECORD + 8) ~= sub(extra, from, from + 7) then
      pieces[#pieces + 1] = sub(body, done * RECORD + 1, at * RECORD)
      pieces[#pieces + 1] = sub(extra, from, from + RECORD - 1)
      done = at
    end
  end
  if #pieces == 0 then
    return body
  end
  pieces[#pieces + 1] = sub(body, done * RECORD + 1)
  return table.concat(pieces)
end

-- A packed list without ids below `floor_id` (8 bytes).
local function above(body, floor_id)
  local below = count_below(body, unpack_be('>I4I4', floor_id))
  return below == 0 and body or sub(body, below * RECORD + 1)
end

-- The newest `cap` records and the floor they leave: the lowest id kept.
local function capped(body, cap)
  body = sub(body, -cap * RECORD)
  return body, digits(unpack_be('>I4I4', body))
end

-- Write a whole list; the key's TTL stays unchanged.
local function write(key, mark, body, more)
  call('SET', key, mark, 'KEEPTTL')
  call('APPEND', key, body)
  if more then
    call('APPEND', key, more)
  end
end

-- The 8 bytes of a number given as 19 digits.
local function bytes_of(text)
  local high, low = tonumber(sub(text, 1, 13)), tonumber(sub(text, 14))
  local hi = floor(high / 4294967296) * 1000000
  local rest = (high % 4294967296) * 1000000 + low
  return struct.pack('>I4I4', hi + floor(rest / 4294967296), rest % 4294967296)
end

-- Return a function that adds `record` to the live list at a key, trims it, and returns 1; it returns 0 if
-- there is no live list. The lists of one call are mostly alike (followers of one author), so the place found
-- in one, counted from the end, is tried first in the next: `depth` records are above it (0: append).
local function deliverer(record, cap, slack)
  local id, HI, LO = sub(record, 1, 8), unpack_be('>I4I4', record)
  local most, kept = MARK + (cap + slack) * RECORD, tostring(-cap * RECORD)
  local depth, window = 0, '-16'

  local function trim(key)
    local mark = mark_of_tweets(key)
    if is_complete(mark) then -- a building list is trimmed when it is completed
      local body = call('GETRANGE', key, kept, '-1')
      write(key, COMPLETE .. digits(unpack_be('>I4I4', body)) .. sub(mark, 63), body)
    end
  end

  local function insert(key)
    local mark, count = mark_of_tweets(key), records_of(key)
    local at, exists = place_near(key, count, HI, LO)
    if not at then
      at, exists = place(key, count, HI, LO)
    end
    if exists or (is_complete(mark) and digits(HI, LO) < floor_of(mark)) then
      return
    end
    depth = count - at
    window = tostring(-(depth + 1) * RECORD)
    local offset = MARK + at * RECORD
    if call('SETRANGE', key, offset, record .. call('GETRANGE', key, offset, '-1')) > most then
      trim(key)
    end
  end

  return function(key)
    local head = call('GETRANGE', key, '0', '42')
    if head ~= COMPLETE and head ~= BUILDING then
      return 0
    end
    local start = depth > 0 and call('STRLEN', key) - depth * RECORD or 0
    if depth > 0 and start < MARK + RECORD then
      insert(key)
      return 1
    end
    -- The records from the one just below the place onward. The last 16 bytes of an empty list are its token,
    -- which begins with '~' and is therefore above every id.
    local tail = call('GETRANGE', key, window, '-1')
    local hi, lo = unpack_be('>I4I4', tail)
    local fits = hi < HI or (hi == HI and lo < LO)
    if fits and depth > 0 then
      hi, lo = unpack_be('>I4I4', tail, 17)
      fits = hi > HI or (hi == HI and lo > LO)
    end
    if not fits then
      insert(key)
      return 1
    end
    local length
    if depth == 0 then
      length = call('APPEND', key, record)
    else
      -- Move the tail up by one record, including its first record, and overwrite that record's old copy.
      length = call('SETRANGE', key, start, tail)
      call('SETRANGE', key, start, record)
    end
    if length > most then
      trim(key)
    end
    return 1
  end
end

-- Up to `count` users of a set above `after` (19 digits of a member; '' = from the lowest), and whether more
-- follow. By rank, so exact for ids that a double cannot represent.
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

-- Return a function that strips the leading zeros of an id. For ascending ids: it searches only when the
-- number of digits grows.
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
