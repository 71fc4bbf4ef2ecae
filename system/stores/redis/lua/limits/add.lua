-- Count requests that were admitted elsewhere, whatever the limit.
-- ARGV: prefix, epoch (not used), window in ms, slots, then key and count of each.
local window_ms, slots = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local slot_ms = window_ms / slots
local slot = math.floor((time[1] * 1000 + math.floor(time[2] / 1000)) / slot_ms)
local old = {}
for s = slot - 2 * slots - 1, slot - slots - 1 do old[#old + 1] = string.format('%d', s) end
for i = 5, #ARGV, 2 do
  local key = ARGV[1] .. ARGV[i]
  redis.call('HDEL', key, unpack(old))
  redis.call('HINCRBY', key, string.format('%d', slot), ARGV[i + 1])
  redis.call('PEXPIRE', key, math.ceil(window_ms + slot_ms))
end
return (#ARGV - 4) / 2
