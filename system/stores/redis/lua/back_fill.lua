-- Add entries to a live list of tweets, without ids below its floor. Returns 1, or 0 if there is no live
-- list.
-- ARGV: prefix epoch key cap slack body(packed, ascending, each id once)
local key, cap, extra = PREFIX .. ARGV[3], tonumber(ARGV[4]), ARGV[6]
local mark = mark_of_tweets(key)
if not is_live(mark) then
  return 0
end
if is_complete(mark) then
  extra = above(extra, bytes_of(floor_of(mark)))
end
local body = merged(call('GETRANGE', key, '79', '-1'), extra)
if is_complete(mark) and #body > (cap + tonumber(ARGV[5])) * RECORD then
  local floor_text
  body, floor_text = capped(body, cap)
  mark = COMPLETE .. floor_text .. sub(mark, 63)
end
write(key, mark, body)
return 1
