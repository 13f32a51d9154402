-- Notes that the end of a task set was announced. A set that is gone stays gone.
--
-- KEYS  1 {AC131}:meta
--
-- Returns nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'announced', 1)
end
