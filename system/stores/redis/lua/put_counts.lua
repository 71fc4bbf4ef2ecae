-- Set like counts, unless a newer count is stored. Returns how many were set.
-- ARGV: prefix epoch ttl_s, then for each tweet: id, count, stamp. A stamp is a sum of versions, far below
-- 2^53.
local set = 0
for i = 4, #ARGV, 3 do
  local key = PREFIX .. 'l:' .. ARGV[i]
  local stamp = string.match(call('GET', key) or '', ' (%d+)$')
  if not stamp or tonumber(stamp) <= tonumber(ARGV[i + 2]) then
    call('SET', key, ARGV[i + 1] .. ' ' .. ARGV[i + 2], 'EX', ARGV[3])
    set = set + 1
  end
end
return set
