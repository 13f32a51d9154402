-- Ends the preparation of a task set: every host of it is written.
--
-- KEYS  1 {AC131}:meta
--
-- Returns {opened, over}: opened is 1 for the one caller that has opened it, over is
-- 1 if it is closed and that is to be announced. {-1, 0} if there is no such set.
local stage = redis.call('HGET', KEYS[1], 'state')
if not stage then
  return { -1, 0 }
end
local opened = 0
if stage == 'preparing' then
  redis.call('HSET', KEYS[1], 'state', 'open')
  opened = 1
end
return { opened, close_if_over(now_ms()) }
