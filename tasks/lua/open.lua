-- Ends the preparation of a task set: every host of it is written.
--
-- KEYS  1 {AC131}:meta
-- ARGV  1 a token of the caller's own: the client may repeat a call whose answer was
--         lost, and it is then still the one that has opened the set
--
-- Returns {opened, over}: opened is 1 for the one caller that has opened it, over is
-- 1 if it is closed and that is to be announced. {-1, 0} if there is no such set.
local m = redis.call('HMGET', KEYS[1], 'state', 'opener')
if not m[1] then
  return { -1, 0 }
end
local opener = m[2]
if m[1] == 'preparing' then
  redis.call('HSET', KEYS[1], 'state', 'open', 'opener', ARGV[1])
  opener = ARGV[1]
end
return { opener == ARGV[1] and 1 or 0, close_if_over(now_ms()) }
