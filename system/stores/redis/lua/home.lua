-- Read one page of a home timeline: the reader's list, their own tweets and the pulled authors they follow,
-- merged, newest first, without authors they do not follow. Sources are read from the newest down, in slices,
-- until the page is full.
-- Returns 'M' + names of missing lists, or 'P' + floor (19 digits) + exhausted + pulled ('1'|'0' each) +
-- records, newest first.
-- ARGV: prefix epoch user before(8 bytes; '' = from the newest) limit pulled pulled ... (19 digits each,
-- ascending)
local user, before, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local missing, highest, following = {}, '', PREFIX .. 'g:' .. user
local sources, self = {}, bytes_of(rep("0", 19 - #user) .. user)

local function open(name, slice)
  local key = PREFIX .. name
  local mark = mark_of_tweets(key)
  if not is_complete(mark) then
    missing[#missing + 1] = name
    return
  end
  if floor_of(mark) > highest then
    highest = floor_of(mark)
  end
  local left = records_of(key)
  if before ~= '' then
    left = place(key, left, unpack_be('>I4I4', before))
  end
  -- left: records not read yet; at: offset in `slab` of the next one, below 1 if the slab is used up
  sources[#sources + 1] = {key = key, left = left, slab = '', at = -RECORD, slice = slice}
end

open('h:' .. user, limit + 4)
open('a:' .. user, 8)
local pulled_any = false
if not is_complete(mark_of_users(following)) then
  missing[#missing + 1] = 'g:' .. user
elseif #ARGV > 5 then
  local scores, strip = call('ZMSCORE', following, unpack(ARGV, 6)), stripper()
  for i = 1, #scores do
    if scores[i] then
      pulled_any = true
      open('a:' .. strip(ARGV[i + 5]), 8)
    end
  end
end
if #missing > 0 then
  return 'M' .. table.concat(missing, ',')
end

local FLOOR_HI, FLOOR_LO = unpack_be('>I4I4', bytes_of(highest))
local visible = {} -- author (8 bytes) -> whether their tweets are shown

local function look_up(slab)
  local authors, members = {}, {}
  for from = 1, #slab, RECORD do
    local author = sub(slab, from + 8, from + 15)
    if visible[author] == nil then
      visible[author] = false
      authors[#authors + 1] = author
      local digits19 = digits(unpack_be('>I4I4', author))
      members[#members + 1] = digits19
      visible[author] = author == self
    end
  end
  if #authors > 0 then
    local scores = call('ZMSCORE', following, unpack(members))
    for i = 1, #authors do
      visible[authors[i]] = visible[authors[i]] or scores[i] ~= false
    end
  end
end

-- Move a source to its next record that may be shown; its id is in source.hi, source.lo (hi = nil at the
-- end).
local function advance(source)
  while true do
    if source.at < 1 then
      if source.left == 0 then
        source.hi = nil
        return
      end
      local from = math.max(0, source.left - source.slice)
      source.slab = call('GETRANGE', source.key, MARK + from * RECORD, MARK + source.left * RECORD - 1)
      source.at, source.left = #source.slab - RECORD + 1, from
      if source == sources[1] then
        look_up(source.slab)
      end
    end
    local at = source.at
    source.at = at - RECORD
    local hi, lo = unpack_be('>I4I4', source.slab, at)
    if hi < FLOOR_HI or (hi == FLOOR_HI and lo < FLOOR_LO) then
      source.left, source.at, source.hi = 0, -RECORD, nil
      return
    end
    if source ~= sources[1] or visible[sub(source.slab, at + 8, at + 15)] then
      source.hi, source.lo, source.record = hi, lo, sub(source.slab, at, at + RECORD - 1)
      return
    end
  end
end

for i = 1, #sources do
  advance(sources[i])
end
local page, last_hi, last_lo, exhausted = {}, nil, nil, '0'
while true do
  local best
  for i = 1, #sources do
    local source = sources[i]
    if source.hi and (not best or source.hi > best.hi or (source.hi == best.hi and source.lo > best.lo)) then
      best = source
    end
  end
  if not best then
    exhausted = '1'
    break
  end
  if best.hi ~= last_hi or best.lo ~= last_lo then -- the same tweet may be in two sources
    if #page == limit then
      break
    end
    page[#page + 1] = best.record
    last_hi, last_lo = best.hi, best.lo
  end
  advance(best)
end
return 'P' .. highest .. exhausted .. (pulled_any and '1' or '0') .. table.concat(page)
