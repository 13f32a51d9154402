-- Claims members of an agenda that are due: for a while nobody else gets them. A claim
-- is the end of that while, made a fraction so that it is told from a time that was
-- entered.
--
-- KEYS  1 the agenda: member -> when it is due, Unix ms
-- ARGV  1 how long, ms  2 how many members at most
--
-- Returns {now_ms, claim, member, member, ...}.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local claim = string.format('%.0f.5', now + tonumber(ARGV[1]))
local reply = { string.format('%.0f', now), claim }
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', KEYS[1], claim, member)
  reply[#reply + 1] = member
end
return reply
