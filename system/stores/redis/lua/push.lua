-- Add one entry to those lists of tweets that are live. Returns how many were live.
-- ARGV: prefix epoch record cap slack key key ...
local deliver, pushed = deliverer(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])), 0
for i = 6, #ARGV do
  pushed = pushed + deliver(PREFIX .. ARGV[i])
end
return pushed
