-- Add a user to a live set. Returns 1, or 0 if there is no live set.
-- ARGV: prefix epoch key user member(19 digits)
local key = PREFIX .. ARGV[3]
if not is_live(mark_of_users(key)) then
  return 0
end
call('ZADD', key, ARGV[4], ARGV[5])
return 1
