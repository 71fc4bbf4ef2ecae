-- Announce to all processes that users changed. '*' means everything. Numbers only grow: after data loss they
-- continue from the clock.
-- ARGV: prefix epoch keep user user ...
local counter, changes = PREFIX .. 'x:n', PREFIX .. 'x'
local number = call('INCR', counter)
if number == 1 then
  local now = call('TIME')
  number = now[1] * 1000 + floor(now[2] / 1000)
  call('SET', counter, format('%.0f', number))
end
for i = 4, #ARGV do
  call('ZADD', changes, format('%.0f', number), ARGV[i])
end
call('ZREMRANGEBYRANK', changes, 0, -1 - tonumber(ARGV[3]))
return 1
