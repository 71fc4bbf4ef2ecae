-- Merge entries into a building list of tweets and mark it complete, if it still has this token. Returns 1 if
-- it did, else 0.
-- ARGV: prefix epoch key token floor(19 digits) cap body(packed, ascending, each id once)
local key, token, floor_text, cap = PREFIX .. ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if mark_of_tweets(key) ~= BUILDING .. rep('0', 19) .. '|' .. token then
  return 0
end
local body = above(merged(ARGV[7], call('GETRANGE', key, '79', '-1')), bytes_of(floor_text))
if #body > cap * RECORD then
  body, floor_text = capped(body, cap)
end
write(key, COMPLETE .. floor_text .. '|' .. token, body)
if body == '' then
  call('PEXPIRE', key, '600000') -- an author without tweets, or an unknown id: clients may request any id
else
  call('PERSIST', key)
end
return 1
