-- Read one page of each list of tweets: {floor + '1' if the page reached it, records ascending}; nil if it is
-- not complete.
-- ARGV: prefix epoch before(8 bytes; '' = from the newest) limit key key ...
local before, limit, pages = ARGV[3], tonumber(ARGV[4]), {}
for i = 5, #ARGV do
  local key = PREFIX .. ARGV[i]
  local mark = mark_of_tweets(key)
  if not is_complete(mark) then
    pages[i - 4] = false
  else
    local count = records_of(key)
    if before ~= '' then
      count = place(key, count, unpack_be('>I4I4', before))
    end
    local from = math.max(0, count - limit)
    local slab = count > 0 and call('GETRANGE', key, MARK + from * RECORD, MARK + count * RECORD - 1) or ''
    pages[i - 4] = {floor_of(mark) .. (from == 0 and '1' or '0'), slab}
  end
end
return pages
