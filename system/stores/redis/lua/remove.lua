-- Remove one id from lists of tweets: from the given keys and, if after ~= '-', from the home lists of an
-- author's next followers.
-- ARGV: prefix epoch id(8 bytes) author after('-' | '' | 19 digits) chunk key key ...
local HI, LO = unpack_be('>I4I4', ARGV[3])
local function remove(key)
  local count = records_of(key)
  if count < 1 then
    return 0
  end
  local at, exists = place(key, count, HI, LO)
  if not exists then
    return 0
  end
  local offset = MARK + at * RECORD
  local below = at > 0 and call('GETRANGE', key, '79', offset - 1) or ''
  write(key, mark_of_tweets(key), below, call('GETRANGE', key, offset + RECORD, '-1'))
  return 1
end
for i = 7, #ARGV do
  remove(PREFIX .. ARGV[i])
end
local list, after = PREFIX .. 'f:' .. ARGV[4], ARGV[5]
if after == '-' then
  return 1
end
local mark = mark_of_users(list)
if not is_complete(mark) then
  return {'absent', after, 0, 0, ''}
end
local users, more = users_above(list, after, tonumber(ARGV[6]))
local strip, removed = stripper(), 0
for i = 1, #users do
  removed = removed + remove(PREFIX .. 'h:' .. strip(users[i]))
end
return {more and 'more' or 'done', users[#users] or after, removed, #users - removed, token_of(mark)}
