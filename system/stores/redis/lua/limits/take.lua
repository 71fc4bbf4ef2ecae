-- Count one request under every key, or under none if one of them is full (the formulas:
-- kernel/resilience/rate_window.py).
-- ARGV: prefix, epoch (not used), window in ms, slots, then key and limit of each quota.
-- Returns {admitted, limit, remaining, wall time of the reset in ms, wait in ms} of the tightest quota.
-- A key is a hash: slot number -> requests. It expires one window and a slot after its last request, so
-- fields older than two windows cannot exist; a new slot removes those between one and two windows old.
local window_ms, slots = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local slot_ms = window_ms / slots
local slot = math.floor(now_ms / slot_ms)

local first_slot, running = slot - slots, string.format('%d', slot)

local tightest, least, oldest = 5, nil, slot
local fresh = {}
for i = 5, #ARGV, 2 do
  local counts = redis.call('HGETALL', ARGV[1] .. ARGV[i])
  local sum, first = 0, slot
  local ahead = {}
  fresh[i] = true
  for j = 1, #counts, 2 do
    local at = tonumber(counts[j])
    if at >= first_slot then
      sum = sum + counts[j + 1]
      first = math.min(first, at)
      fresh[i] = fresh[i] and at ~= slot
      if at > slot then ahead[#ahead + 1] = j end
    end
  end
  -- The clock stepped back: requests counted in future slots move to the current slot, so they count for one
  -- window at most.
  for _, j in ipairs(ahead) do
    redis.call('HDEL', ARGV[1] .. ARGV[i], counts[j])
    redis.call('HINCRBY', ARGV[1] .. ARGV[i], running, counts[j + 1])
    fresh[i] = false
  end
  local left = ARGV[i + 1] - sum
  if least == nil or left < least then
    tightest, least, oldest = i, left, first
  end
end

local admitted = 0
if least > 0 then
  admitted = 1
  for i = 5, #ARGV, 2 do
    local key = ARGV[1] .. ARGV[i]
    if fresh[i] then
      local old = {}
      for s = slot - 2 * slots - 1, slot - slots - 1 do old[#old + 1] = string.format('%d', s) end
      redis.call('HDEL', key, unpack(old))
      redis.call('HSET', key, running, 1)
      redis.call('PEXPIRE', key, math.ceil(window_ms + slot_ms))
    else
      redis.call('HINCRBY', key, running, 1)
    end
  end
end
local reset_ms = math.ceil((oldest + 1 + slots) * slot_ms)
return {admitted, tonumber(ARGV[tightest + 1]), math.max(0, least - admitted), reset_ms, reset_ms - now_ms}
