-- Add users to a building set, if it still has this token; the last part marks it complete. Returns 1 if it
-- did, else 0. A building set is never read, so its members may arrive in several calls.
-- ARGV: prefix epoch key token floor(19 digits) ttl_ms last('1'|'0') score member score member ...
local key, token = PREFIX .. ARGV[3], ARGV[4]
local mark = BUILDING .. rep('0', 19) .. '|' .. token
if mark_of_users(key) ~= mark then
  return 0
end
for from = 8, #ARGV, 4000 do -- Lua's stack holds about 8,000 values
  call('ZADD', key, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
if ARGV[7] == '1' then
  call('ZREM', key, mark)
  call('ZADD', key, '+inf', COMPLETE .. ARGV[5] .. '|' .. token)
  call('PERSIST', key)
else
  call('PEXPIRE', key, ARGV[6])
end
return 1
