-- Ends the preparation of a task set: every host of it is written.
--
-- KEYS  1 {AC131}:meta
-- ARGV  1 a token of the caller's own: the client may repeat a call whose answer was
--         lost, and it is then still the one that has opened the set
--       2 wait after the first send, ms; it doubles with each further one
--       3 how many sends in all
--
-- Returns {opened, over}: opened is 1 for the one caller that has opened it, over is
-- 1 if it is closed and that is to be announced. {-1, 0} if there is no such set.
local m = redis.call('HMGET', KEYS[1], 'state', 'opener')
if not m[1] then
  return { -1, 0 }
end
local opener = m[2]
if m[1] == 'preparing' then
  redis.call('HSET', KEYS[1], 'state', 'open', 'opener', ARGV[1],
    'sent_ms', whole(now_ms()), 'retry_ms', ARGV[2], 'attempts', ARGV[3])
  opener = ARGV[1]
end
return { opener == ARGV[1] and 1 or 0, close_if_over(now_ms()) }
