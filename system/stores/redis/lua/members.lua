-- Read the next users of a complete set, 19 digits each: {token, last, '1' if more follow, digits}; nil if it
-- is not complete.
-- ARGV: prefix epoch key after count
local key = PREFIX .. ARGV[3]
local mark = mark_of_users(key)
if not is_complete(mark) then
  return false
end
local users, more = users_above(key, ARGV[4], tonumber(ARGV[5]))
return {token_of(mark), users[#users] or '', more and '1' or '0', table.concat(users)}
