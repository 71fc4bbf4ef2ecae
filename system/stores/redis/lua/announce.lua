-- Tell all processes that users changed. '*' means everything. Numbers only grow: after a loss they go on from the clock.
-- ARGV: prefix epoch keep user user ...
local numbers, news = PREFIX .. 'x:n', PREFIX .. 'x'
local number = call('INCR', numbers)
if number == 1 then
  local now = call('TIME')
  number = now[1] * 1000 + floor(now[2] / 1000)
  call('SET', numbers, format('%.0f', number))
end
for i = 4, #ARGV do
  call('ZADD', news, format('%.0f', number), ARGV[i])
end
call('ZREMRANGEBYRANK', news, 0, -1 - tonumber(ARGV[3]))
return 1
