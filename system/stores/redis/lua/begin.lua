-- Mark a list *building* unless a live one exists. Returns 1 if this token now owns it, 2 if the list is
-- complete, 0 if another token is building it.
-- ARGV: prefix epoch key is_users('1'|'0') token ttl_ms
local key, users = PREFIX .. ARGV[3], ARGV[4] == '1'
local mark = BUILDING .. rep('0', 19) .. '|' .. ARGV[5]
local present = users and mark_of_users(key) or mark_of_tweets(key)
if is_live(present) then
  return is_complete(present) and 2 or 0
end
call('UNLINK', key)
if users then
  call('ZADD', key, '+inf', mark)
  call('PEXPIRE', key, ARGV[6])
else
  call('SET', key, mark, 'PX', ARGV[6])
end
return 1
