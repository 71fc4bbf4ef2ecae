-- Add one entry to the live home timelines of an author's next followers; no follower id is sent over the
-- network.
-- ARGV: prefix epoch author record cap slack after chunk token
local list, token, after = PREFIX .. 'f:' .. ARGV[3], ARGV[9], ARGV[7]
local mark = mark_of_users(list)
if not is_complete(mark) then
  return {'absent', after, 0, 0, ''}
end
if token ~= '' and token ~= token_of(mark) then
  return {'changed', after, 0, 0, token_of(mark)}
end
local users, more = users_above(list, after, tonumber(ARGV[8]))
local deliver, strip = deliverer(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])), stripper()
local home, pushed = PREFIX .. 'h:', 0
for i = 1, #users do
  pushed = pushed + deliver(home .. strip(users[i]))
end
return {more and 'more' or 'done', users[#users] or after, pushed, #users - pushed, token_of(mark)}
