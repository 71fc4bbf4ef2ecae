-- Read one page of each of some lists of tweets: floor, '1' where the page reached it, records ascending; nil where not complete.
-- ARGV: prefix epoch before(8 bytes; '' = from the newest) limit key key ...
local before, limit, pages = ARGV[3], tonumber(ARGV[4]), {}
for i = 5, #ARGV do
  local key = PREFIX .. ARGV[i]
  local mark = mark_of_tweets(key)
  if not is_complete(mark) then
    pages[i - 4] = false
  else
    local body = call('GETRANGE', key, '79', '-1')
    local above_page = before == '' and #body / RECORD or count_below(body, unpack_be('>I4I4', before))
    local from = math.max(0, above_page - limit)
    pages[i - 4] = floor_of(mark) .. (from == 0 and '1' or '0') .. sub(body, from * RECORD + 1, above_page * RECORD)
  end
end
return pages
