-- Remove one id from lists of tweets, wherever it stands.
-- Either from the keys given, or (after ~= '-') from the home lists of the next followers of an author.
-- ARGV: prefix epoch id(8 bytes) author after('-' | '' | 19 digits) chunk key key ...
local id, HI, LO = ARGV[3], unpack_be('>I4I4', ARGV[3])
local function remove(key)
  local body = call('GETRANGE', key, '79', '-1')
  local at = count_below(body, HI, LO)
  if not stands_at(body, at, id) then
    return 0
  end
  local rest = sub(body, 1, at * RECORD) .. sub(body, (at + 1) * RECORD + 1)
  call('SET', key, mark_of_tweets(key) .. rest, 'KEEPTTL')
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
